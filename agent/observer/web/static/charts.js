// Charts by uPlot: lines over time, and stacked bars. Each has its newest values as text beside it.
import { bytes, h } from './dom.js';

const colour = name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();

// swatch is a sample of a line's colour.
function swatch(c, dash) {
  const ns = 'http://www.w3.org/2000/svg', svg = document.createElementNS(ns, 'svg'), line = document.createElementNS(ns, 'line');
  for (const [k, v] of Object.entries({ width: 18, height: 8, 'aria-hidden': 'true' })) svg.setAttribute(k, v);
  for (const [k, v] of Object.entries({ x1: 0, y1: 4, x2: 18, y2: 4, stroke: c, 'stroke-width': 3, 'stroke-dasharray': dash ? '4 3' : 'none' })) line.setAttribute(k, v);
  svg.append(line);
  return svg;
}

// steps are the distances that lines of a grid may have: whole numbers, of bytes powers of two.
const whole = [1, 2, 5].flatMap(m => [...Array(13).keys()].map(e => m * 10 ** e)).sort((a, b) => a - b);
const binary = [...Array(50).keys()].map(e => 2 ** e);
const fine = [.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, ...whole];

// clock writes times in the reader's way, with the date where the chart is longer than a day.
function clock(_, splits) {
  const length = splits[splits.length - 1] - splits[0];
  const form = new Intl.DateTimeFormat(undefined, length > 86400 ? { month: 'short', day: 'numeric' } : { hour: '2-digit', minute: '2-digit', second: length < 300 ? '2-digit' : undefined });
  return splits.map(t => form.format(new Date(t * 1000)));
}

const axes = (format, incrs) => [
  { stroke: colour('soft'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line') }, values: clock, space: 90, size: 32 },
  { stroke: colour('soft'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line') }, size: 78, incrs, values: (_, v) => v.map(x => (x === null ? '' : format(x))) },
];

// chart is a figure; lines are {label, colour, dash, values}. It follows the width of its place, and end takes it down.
function chart(title, at, lines, format, paths, summary) {
  const place = h('div', { role: 'img', 'aria-label': title + ': ' + summary });
  const el = h('figure', {}, h('figcaption', {}, title, h('span', {}, summary)), place, h('ul', { class: 'legend' }, lines.map(l => h('li', {}, swatch(colour(l.colour), l.dash), l.label))));
  const top = lines.flatMap(l => l.values).reduce((m, v) => Math.max(m, v ?? 0), 0);
  const plot = new window.uPlot({
    width: 400, height: 190, legend: { show: false }, cursor: { y: false }, scales: { y: { range: [0, top > 0 ? top * 1.08 : 1] } }, axes: axes(format, format === bytes ? binary : lines[0].fine ? fine : whole),
    series: [{}, ...lines.map(l => ({ label: l.label, stroke: colour(l.colour), width: 2, dash: l.dash ? [6, 4] : undefined, fill: paths ? colour(l.colour) : undefined, paths, points: { show: false }, spanGaps: false }))],
  }, [at, ...lines.map(l => l.values)], place);
  const size = new ResizeObserver(() => plot.setSize({ width: Math.max(200, place.clientWidth), height: 190 }));
  size.observe(place);
  return { el, end() { size.disconnect(); plot.destroy(); } };
}

// lineChart shows lines; at is in seconds.
export function lineChart(title, at, lines, format) {
  const newest = l => l.values[l.values.length - 1];
  const single = at.length === 1 ? 'one probe yet' : '';
  const summary = lines.map(l => (newest(l) === null || newest(l) === undefined ? null : l.label + ' ' + format(newest(l)))).filter(Boolean).join(', ') || 'not known';
  return chart(title, at, lines, format, null, summary + (single && ', ' + single));
}

// barChart stacks the values of each time on one another.
export function barChart(title, at, lines, format) {
  const sums = at.map(() => 0);
  const stacked = lines.map(l => ({ ...l, values: l.values.map((v, i) => (sums[i] += v ?? 0) || null) }));
  const summary = lines.map(l => l.label + ' ' + format(l.values.reduce((a, b) => a + (b ?? 0), 0))).join(', ');
  return chart(title, at, stacked.reverse(), format, window.uPlot.paths.bars({ size: [.8, 60] }), summary); // the tallest first: the others are drawn over it
}
