// Critical and warning alarms as they come. Repeats of one that stands are one entry.
import { badge, fill, h, link, path, when } from './dom.js';
import { get } from './api.js';

const most = 200;
const ended = a => a.status === 'resolved' || (!a.status && (a.msg ?? '').startsWith('Resolved: '));
const key = a => JSON.stringify([a.instance, a.metric, a.node || a.slave, a.severity, ended(a), a.since]);

export async function feed(body) {
  const lists = await Promise.all(['critical', 'warning'].map(severity => get('/alarms', { severity, limit: 100, since: '24h' })));
  const entries = new Map(); // by key, the newest last
  const take = (a, at) => {
    const k = key(a), was = entries.get(k);
    entries.delete(k);
    entries.set(k, { a, at, times: (was?.times ?? 0) + 1 });
    if (entries.size > most) entries.delete(entries.keys().next().value);
  };
  const seen = new Set();
  for (const a of lists.flat().sort((x, y) => (x.received < y.received ? -1 : 1))) {
    if (a.id) seen.add(a.id);
    take(a, a.received);
  }
  const list = h('ol', { class: 'feed', 'aria-label': 'Alarms, newest first' }), none = h('p', { class: 'note' });
  const entry = ({ a, at, times }) => h('li', { class: ended(a) ? 'resolved' : a.severity }, h('div', { class: 'row' }, badge(ended(a) ? 'resolved' : a.severity, ended(a) ? 'good' : a.severity),
    link(path('instances', a.instance), a.instance), h('span', { class: 'soft small' }, [a.metric, a.node || a.slave].filter(Boolean).join(' on ')), h('span', { class: 'soft small' }, when(at)),
    times > 1 && h('span', { class: 'soft small' }, times + ' times')), h('div', {}, a.msg));
  const draw = () => {
    fill(list, [...entries.values()].reverse().map(entry));
    none.textContent = entries.size ? '' : 'No critical or warning alarm in the last 24 hours. New ones show here at once.';
    none.hidden = entries.size > 0;
  };
  draw();
  fill(body, h('h1', {}, 'Critical and warning alarms'), none, list);
  return {
    event(kind, a) {
      if (kind !== 'alarm' || (a.id && seen.has(a.id))) return;
      if (a.id) seen.add(a.id);
      take(a, a.received);
      draw();
    },
  };
}
