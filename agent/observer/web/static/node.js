// One node: what its newest probes have read.
import { badge, bytes, count, h, link, path, when } from './dom.js';
import { get } from './api.js';
import { lineChart } from './charts.js';
import { own } from './patch.js';

const ms = s => (s * 1000).toFixed(s < .01 && s > 0 ? 1 : 0) + ' ms';

// rises turns a counter into how much it rose from probe to probe; a restart sets it back, which is no fall.
const rises = list => list.map((v, i) => (i === 0 || v === null || list[i - 1] === null ? null : Math.max(0, v - list[i - 1])));
const known = list => list.some(v => v !== null);

const charts = v => [
  ['Memory', [{ label: 'counted', colour: 'c1', values: v.memory_counted_bytes }, { label: 'maxmemory', limit: true, values: v.memory_max_bytes }], bytes],
  ['Clients', [{ label: 'connected', colour: 'c1', values: v.clients }, { label: 'maxclients', limit: true, values: v.clients_max }], count],
  ['Replication offset lag', [{ label: 'behind its master', colour: 'c4', values: v.replication_lag_bytes }], bytes],
  ['Evictions', [{ label: 'keys from probe to probe', colour: 'c3', values: rises(v.evicted_keys_total) }], count],
  ['Expirations', [{ label: 'keys from probe to probe', colour: 'c5', values: rises(v.expired_keys_total) }], count],
  ['Slow log', [{ label: 'entries from probe to probe', colour: 'c3', values: rises(v.slowlog_entries_total) }], count],
  ['Latency', [{ label: 'round trip of INFO', colour: 'c6', fine: true, values: v.round_trip_seconds }], ms],
  ['Operations', [{ label: 'per second', colour: 'c1', values: v.operations_per_second }], count],
].filter(([, lines]) => known(lines[0].values));

export function node({ args: [instance, name] }) {
  const drawn = new Map(); // by title
  let n;
  return {
    every: 5000,
    async load() {
      [n] = await get('/nodes', { instance, node: name });
      const at = n.series.at.map(t => t / 1000);
      for (const [title, lines, format] of charts(n.series.values)) {
        if (!drawn.has(title)) drawn.set(title, lineChart(title, format));
        drawn.get(title).show(at, lines);
      }
    },
    draw: () => [h('div', { class: 'row spread' }, h('h1', {}, name), n.reach === 'up' ? badge('up', 'good') : badge(n.reach, 'critical')),
      h('p', { class: 'soft' }, link(path('instances', instance), instance), ', ' + (n.actual_role || n.role) + (n.version ? ', ' + n.version : '') + ', probed ', when(n.at)),
      n.error && h('p', { class: 'note critical' }, n.error), n.actual_role && n.actual_role !== n.role && h('p', { class: 'note warning' }, 'It should be a ' + n.role + ' by the config.'),
      drawn.size ? h('div', { class: 'charts' }, [...drawn].map(([title, c]) => own(title, c.el))) : h('p', { class: 'note' }, 'No probe has read this node yet.'),
      h('p', { class: 'soft small' }, 'From the memory of this process: the newest 720 probes.')],
    end: () => drawn.forEach(c => c.end()),
  };
}
