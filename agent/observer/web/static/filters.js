// A form whose choices are in the address, so that a link leads to the same list.
import { h } from './dom.js';

// filters has fields [name, label, options], an option being a value or [value, text].
export function filters(base, params, fields) {
  const go = form => {
    const q = new URLSearchParams([...new FormData(form)].filter(([, v]) => v !== ''));
    location.hash = base + (q.size ? '?' + q : '');
  };
  const form = h('form', { class: 'filters', 'aria-label': 'Filters', onsubmit: e => { e.preventDefault(); go(form); }, onchange: () => go(form) }, fields.map(([name, label, options]) => h('label', {}, label,
    h('select', { name }, options.map(o => {
      const [value, text] = Array.isArray(o) ? o : [o, o || 'all'];
      return h('option', { value, selected: value === (params.get(name) ?? '') }, text);
    })))));
  return form;
}
