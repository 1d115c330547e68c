// The archive of alarms: searched by text, severity, instance, metric and time, a page at a time.
import { h, keep, link, path, row, table, when } from './dom.js';
import { get } from './api.js';
import { place, severityBadge } from './feed.js';
import { filters } from './filters.js';

const size = 50;
const names = ['text', 'severity', 'instance', 'metric', 'since', 'until'];

// brief is a name of anybody on the bus, no longer than leaves room for the other columns.
const brief = (s = '') => (s.length > 40 ? [...s].slice(0, 39).join('') + '…' : s);

// past is the time before which the next page begins. Alarms of its last millisecond may be on both pages: none is left out.
function past(list) {
  const last = Date.parse(list[list.length - 1].received), first = Date.parse(list[0].received);
  return new Date(first > last ? last + 1 : last).toISOString();
}

export function alarms({ params }) {
  const q = Object.fromEntries(names.map(k => [k, params.get(k) ?? '']));
  const at = more => {
    const p = new URLSearchParams(Object.entries({ ...q, ...more }).filter(([, v]) => v));
    return '#/alarms' + (p.size ? '?' + p : '');
  };
  let list, s;
  return {
    async load() {
      [list, s] = await Promise.all([get('/alarms', { ...q, since: q.since || '30d', limit: size }), get('/status')]);
    },
    draw: () => [h('h1', {}, 'Alarms'), filters('#/alarms', params, [
      ['text', 'Text', null], ['severity', 'Severity', ['', 'critical', 'warning', 'notice']], ['instance', 'Instance', ['', ...s.instances.map(i => i.instance)]], ['metric', 'Metric', null],
      ['since', 'Since', [['1h', '1 hour'], ['24h', '24 hours'], ['7d', '7 days'], ['', '30 days'], ['365d', 'a year']]]]),
    q.until && h('p', {}, 'Before ', when(q.until), '. ', link(at({ until: '' }), 'Show the newest')),
    table(list.length + (list.length === size ? ' alarms, newest first; there may be older ones' : ' alarms, newest first'), ['Received', 'Severity', 'Instance', 'Metric', 'Node', 'Message'],
      list.map(a => row(a.id, keep(when(a.received)), severityBadge(a), keep(link(path('instances', a.instance), brief(a.instance))), keep(brief(a.metric)), keep(brief(a.node || a.slave || '')), a.msg)),
      'No such alarm. The role archiver keeps them; look for another text, or further back.'),
    list.length === size && h('p', {}, link(at({ until: past(list) }), 'Older alarms'))],
    event: kind => (kind === 'alarm' && !q.until ? 'load' : null),
  };
}
