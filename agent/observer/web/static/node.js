// One node: what its newest probes have read.
import { badge, bytes, count, fill, h, link, path, when } from './dom.js';
import { get } from './api.js';
import { lineChart } from './charts.js';
import { every } from './fleet.js';

const ms = s => (s * 1000).toFixed(s < .01 && s > 0 ? 1 : 0) + ' ms';

// rises turns a counter into how much it rose from probe to probe; a restart sets it back, which is no fall.
const rises = list => list.map((v, i) => (i === 0 || v === null || list[i - 1] === null ? null : Math.max(0, v - list[i - 1])));
const known = list => list.some(v => v !== null);

function charts(n) {
  const v = n.series.values, at = n.series.at.map(t => t / 1000);
  const limit = (values, label) => (values.some(x => x > 0) ? [{ label, colour: 'c2', dash: true, values }] : []);
  return [
    ['Memory', [{ label: 'counted', colour: 'c1', values: v.memory_counted_bytes }, ...limit(v.memory_max_bytes, 'maxmemory')], bytes],
    ['Clients', [{ label: 'connected', colour: 'c1', values: v.clients }, ...limit(v.clients_max, 'maxclients')], count],
    ['Replication lag', [{ label: 'bytes behind', colour: 'c4', values: v.replication_lag_bytes }], bytes],
    ['Evictions', [{ label: 'keys from probe to probe', colour: 'c3', values: rises(v.evicted_keys_total) }], count],
    ['Expirations', [{ label: 'keys from probe to probe', colour: 'c5', values: rises(v.expired_keys_total) }], count],
    ['Slow log', [{ label: 'entries from probe to probe', colour: 'c3', values: rises(v.slowlog_entries_total) }], count],
    ['Latency', [{ label: 'round trip of INFO', colour: 'c6', fine: true, values: v.round_trip_seconds }], ms],
    ['Operations', [{ label: 'per second', colour: 'c1', values: v.operations_per_second }], count],
  ].filter(([, lines]) => known(lines[0].values)).map(([title, lines, format]) => lineChart(title, at, lines, format));
}

export async function node(body, { args: [instance, name] }) {
  const head = h('div'), place = h('div', { class: 'charts' });
  let drawn = [];
  const load = async () => {
    const [n] = await get('/nodes', { instance, node: name });
    drawn.forEach(c => c.end());
    drawn = charts(n);
    fill(head, h('div', { class: 'row spread' }, h('h1', {}, name, ' '), n.reach === 'up' ? badge('up', 'good') : badge(n.reach, 'critical')),
      h('p', { class: 'soft' }, link(path('instances', instance), instance), ', ' + (n.actual_role || n.role) + (n.version ? ', ' + n.version : '') + ', probed ', when(n.at)),
      n.error && h('p', { class: 'note critical' }, n.error), n.actual_role && n.actual_role !== n.role && h('p', { class: 'note warning' }, 'It should be a ' + n.role + ' by the config.'));
    fill(place, drawn.length ? drawn.map(c => c.el) : h('p', { class: 'note' }, 'No probe has read this node yet.'));
  };
  await load();
  fill(body, head, place, h('p', { class: 'soft small' }, 'From the memory of this process: the newest 720 probes.'));
  const stop = every(5000, load);
  return { end() { stop(); drawn.forEach(c => c.end()); } };
}
