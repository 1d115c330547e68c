// A form whose choices are in the address, so that a link leads to the same list.
import { h } from './dom.js';

// filters has fields [name, label, options], an option being a value or [value, text]; without options it is a text to type.
export function filters(base, params, fields) {
  const go = form => {
    const q = new URLSearchParams([...new FormData(form)].map(([k, v]) => [k, v.trim()]).filter(([, v]) => v !== ''));
    location.hash = base + (q.size ? '?' + q : '');
  };
  const choice = (name, options) => h('select', { name }, options.map(o => {
    const [value, text] = Array.isArray(o) ? o : [o, o || 'all'];
    return h('option', { value, selected: value === (params.get(name) ?? '') }, text);
  }));
  const text = name => h('input', { name, type: 'search', value: params.get(name) ?? '', maxlength: 200 });
  return h('form', { class: 'filters', 'aria-label': 'Filters', onsubmit: e => { e.preventDefault(); go(e.currentTarget); }, onchange: e => go(e.currentTarget) },
    fields.map(([name, label, options]) => h('label', {}, label, options ? choice(name, options) : text(name))), h('button', { type: 'submit' }, 'Filter'));
}
