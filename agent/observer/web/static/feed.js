// Critical and warning alarms as they come. Repeats of one that stands are one entry.
import { badge, h, link, path, when } from './dom.js';
import { get } from './api.js';

const most = 200;
export const ended = a => a.status === 'resolved' || (!a.status && (a.msg ?? '').startsWith('Resolved: '));
export const severityBadge = a => badge(ended(a) ? 'resolved' : a.severity, ended(a) ? 'good' : a.severity);
export const place = a => [a.metric, a.node || a.slave].filter(Boolean).join(' on ');
const name = a => JSON.stringify([a.instance, a.metric, a.node || a.slave, a.severity, ended(a), a.since]);

export function feed() {
  const entries = new Map(); // by name, the newest last
  const seen = new Set(); // each alarm that was taken

  // take keeps an alarm, and says whether it is new.
  function take(a) {
    const k = name(a), was = entries.get(k), id = a.id || k + a.received;
    if (seen.has(id)) return false;
    seen.add(id);
    entries.delete(k);
    entries.set(k, { k, a, times: (was?.times ?? 0) + 1 });
    if (entries.size > most) entries.delete(entries.keys().next().value);
    if (seen.size > 20 * most) seen.delete(seen.values().next().value);
    return true;
  }
  const entry = ({ k, a, times }) => h('li', { class: ended(a) ? 'resolved' : a.severity, data: { key: k } },
    h('div', { class: 'row' }, severityBadge(a), link(path('instances', a.instance), a.instance), h('span', { class: 'soft small' }, place(a)), h('span', { class: 'soft small' }, when(a.received)),
      times > 1 && h('span', { class: 'soft small' }, times + ' times')), h('div', {}, a.msg));
  return {
    async load() {
      const lists = await Promise.all(['critical', 'warning'].map(severity => get('/alarms', { severity, limit: 100, since: '24h' })));
      for (const a of lists.flat().sort((x, y) => (x.received < y.received ? -1 : 1))) take(a);
    },
    draw: () => [h('h1', {}, 'Critical and warning alarms'), h('p', { class: 'soft' }, 'As they come, the newest first. Older ones are under ', link('#/alarms', 'Alarms'), '.'),
      entries.size ? h('ol', { class: 'feed' }, [...entries.values()].reverse().map(entry))
        : h('p', { class: 'note' }, 'No critical or warning alarm in the last 24 hours. New ones show here at once.')],
    event: (kind, a) => (kind === 'alarm' && take(a) ? 'draw' : null),
  };
}
