// Asks a person for a few words, and does what they ask for.
import { h } from './dom.js';
import { post, session } from './api.js';

// ask shows fields [name, label, attributes] and hands their values to act. It gives true when act has succeeded, false when the person
// has left; an error is shown and they may try again.
export function ask(title, fields, button, act) {
  return new Promise(resolve => {
    const error = h('p', { class: 'note critical', role: 'alert', hidden: true });
    const inputs = fields.map(([name, label, attrs]) => [name, h('label', {}, label, h('input', { name, ...attrs }))]);
    const form = h('form', { method: 'dialog' }, h('h2', {}, title), inputs.map(([, el]) => el), error,
      h('div', { class: 'row' }, h('button', { class: 'main', type: 'submit' }, button), h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel')));
    const dialog = h('dialog', { 'aria-label': title }, form);
    let done = false;
    form.addEventListener('submit', async e => {
      e.preventDefault();
      error.hidden = true;
      try {
        await act(Object.fromEntries(new FormData(form)));
        done = true;
        dialog.close();
      } catch (err) {
        error.hidden = false;
        error.textContent = err.message;
      }
    });
    dialog.addEventListener('close', () => { dialog.remove(); resolve(done); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

const nameKey = 'dcshealer.by';
const who = () => ['by', 'Your name (it goes into the journal)', { required: true, maxlength: 100, autocomplete: 'name', value: localStorage.getItem(nameKey) ?? '' }];
const why = ['reason', 'Why (it goes into the journal)', { required: true, maxlength: 1000 }];
const long = ['for', 'For how long, such as 30m, 2h or 3d; empty: until changed', { pattern: '[0-9hmsd.]*', placeholder: '1h' }];

// order asks for a name and further fields, and posts them with what is fixed.
function order(title, fields, button, url, fixed) {
  return ask(title, [...fields, who()], button, v => {
    localStorage.setItem(nameKey, v.by);
    return post(url, { ...v, ...fixed });
  });
}

export const pause = instance => order('Pause ' + (instance || 'every instance'), [why, long], 'Pause', '/pause', instance ? { instance } : { all: true });
export const resume = instance => order('Resume ' + (instance || 'every instance'), [why], 'Resume', '/resume', instance ? { instance } : { all: true });
export const setLive = (instance, action, enabled) =>
  order((enabled ? 'Let ' + action + ' run for real on ' : 'Have ' + action + ' run dry on ') + instance, [why, long], enabled ? 'Enable' : 'Disable', '/live', { instance, action, enabled });
export const resetBreaker = (instance, action) => order('Reset the breaker of ' + action + ' on ' + (instance || 'every instance'), [why], 'Reset', '/breaker/reset', instance ? { instance, action } : { all: true, action });
export const take = id => order('Take incident ' + id, [['note', 'Note (optional)', { maxlength: 1000 }]], 'Take it', '/incidents/' + encodeURIComponent(id) + '/ack', {});

// button is one that a reader who may change nothing does not see.
export const button = (text, act, after) => (session.may_change ? h('button', { type: 'button', onclick: async () => { if (await act()) after?.(); } }, text) : null);
