// Alarms counted over time, by severity and by instance.
import { count, h, table, when } from './dom.js';
import { get } from './api.js';
import { barChart } from './charts.js';
import { own } from './patch.js';

const ranges = { '15m': ['1m', 60, 900], '1h': ['1m', 60, 3600], '6h': ['5m', 300, 21600], '24h': ['30m', 1800, 86400], '7d': ['3h', 10800, 604800], '30d': ['12h', 43200, 2592000] };
const severities = [['notice', 'notice'], ['warning', 'warning'], ['critical', 'critical']];

// spread puts points into buckets, those without an alarm included.
function spread(points, keys, step, length) {
  const last = Math.floor(Date.now() / 1000 / step) * step, at = [];
  for (let t = last - Math.floor(length / step) * step; t <= last; t += step) at.push(t);
  const place = new Map(at.map((t, i) => [t, i]));
  const values = new Map(keys.map(k => [k, at.map(() => 0)]));
  for (const p of points) {
    const i = place.get(Date.parse(p.at) / 1000);
    const key = values.has(p.key) ? p.key : 'others';
    if (i !== undefined && values.has(key)) values.get(key)[i] += p.count;
  }
  return { at, values };
}

function loudest(points) {
  const sums = new Map();
  for (const p of points) sums.set(p.key, (sums.get(p.key) ?? 0) + p.count);
  const keys = [...sums.keys()].sort((a, b) => sums.get(b) - sums.get(a) || (a < b ? -1 : 1));
  return keys.length > 6 ? [...keys.slice(0, 6), 'others'] : keys;
}

export function trends({ params }) {
  const range = ranges[params.get('range')] ? params.get('range') : '1h';
  const [bucket, step, length] = ranges[range];
  const charts = { severity: barChart('By severity', count), instance: barChart('By instance', count) };
  let s, names, empty;
  return {
    every: step <= 300 ? 15000 : 60000,
    async load() {
      const [bySeverity, byInstance] = await Promise.all(['severity', 'instance'].map(by => get('/trend', { by, bucket, since: range })));
      empty = !bySeverity.length;
      s = spread(bySeverity, severities.map(([k]) => k), step, length);
      names = loudest(byInstance);
      const n = spread(byInstance, names, step, length);
      charts.severity.show(s.at, severities.map(([k, colour]) => ({ label: k, colour, values: s.values.get(k) })));
      charts.instance.show(n.at, names.map((k, i) => ({ label: k, colour: 'c' + (i + 1), values: n.values.get(k) })));
    },
    draw() {
      const some = i => severities.some(([k]) => s.values.get(k)[i] > 0);
      const rows = s.at.map((t, i) => some(i) && [when(t * 1000), ...severities.map(([k]) => count(s.values.get(k)[i]))]).filter(Boolean).reverse();
      return [h('div', { class: 'row spread' }, h('h1', {}, 'Alarm trends'), h('div', { class: 'row', role: 'group', 'aria-label': 'Range' }, Object.keys(ranges).map(r =>
        h('button', { type: 'button', 'aria-pressed': String(r === range), onclick: () => { location.hash = '#/trends?range=' + r; } }, r)))),
      empty && h('p', { class: 'note' }, 'No alarm in this time. The role archiver keeps them.'),
      h('div', { class: 'charts' }, own('severity', charts.severity.el), names.length > 0 && own('instance', charts.instance.el)),
      h('details', {}, h('summary', {}, 'As a table'), table('Alarms in spans of ' + bucket, ['From', ...severities.map(([k]) => k)], rows, 'No alarm in this time.'))];
    },
    end: () => Object.values(charts).forEach(c => c.end()),
  };
}
