// Charts by uPlot: lines over time, and stacked bars. Each has what it shows as text beside it, or the values where the pointer is
// or the arrow keys have led.
import { bytes, h } from './dom.js';
import { colour, pattern, swatch } from './patterns.js';

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

const height = 190;

// chart is a figure; show gives it lines {label, colour, values, dash, pattern}, a text, the top of
// its scale and the margin that bars need at its sides. It follows the width of its place, and end takes it down.
function chart(title, format, paths) {
  const place = h('div', { role: 'img', tabindex: 0, onkeydown: step, onfocus: () => words.setAttribute('aria-live', 'polite'), onblur: () => words.removeAttribute('aria-live') }), words = h('span'), legend = h('ul', { class: 'legend' });
  const el = h('figure', {}, h('figcaption', {}, h('b', {}, title), words), place, legend);
  let plot = null, labels = '', shown = null;

  // step moves what is read of the chart by the arrow keys.
  function step(e) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[e.key], last = shown.at.length - 1;
    if (!by) return;
    e.preventDefault();
    const i = Math.max(0, Math.min(last, (plot.cursor.idx ?? last + 1) + by));
    plot.setCursor({ left: plot.valToPos(shown.at[i], 'x'), top: 0 });
  }
  // said is the values where the pointer is, or else the summary.
  function said(i) {
    if (i === null || i === undefined) return shown.summary;
    const values = shown.lines.filter(l => l.values[i] !== null).map(l => l.label + ' ' + format((l.own ?? l.values)[i]));
    return moment.format(new Date(shown.at[i] * 1000)) + (values.length ? ': ' + values.join(', ') : ': not known');
  }
  function make() {
    plot?.destroy();
    plot = new window.uPlot({
      width: Math.max(200, place.clientWidth), height, legend: { show: false }, cursor: { y: false, points: { show: !paths } }, scales: { x: { range: (_, low, high) => [low - shown.margin, high + shown.margin] }, y: { range: () => [0, shown.top] } }, hooks: { setCursor: [u => { words.textContent = said(u.cursor.idx); }] },
      axes: axes(format, format === bytes ? binary : shown.lines[0]?.fine ? fine : whole),
      series: [{}, ...shown.lines.map(l => ({ label: l.label, stroke: colour(l.colour), width: paths ? 1 : 2, dash: l.dash ? [6, 4] : undefined, fill: paths ? () => pattern(l) : undefined, paths, points: { show: false }, spanGaps: false }))],
    }, [shown.at, ...shown.lines.map(l => l.values)], place);
  }
  const size = new ResizeObserver(() => plot?.setSize({ width: Math.max(200, place.clientWidth), height }));
  size.observe(place);
  return {
    el,
    show(next) {
      shown = next;
      const names = JSON.stringify(shown.lines.map(l => [l.label, l.colour]));
      if (plot && names === labels) plot.setData([shown.at, ...shown.lines.map(l => l.values)]);
      else make();
      labels = names;
      place.setAttribute('aria-label', title + ': ' + shown.summary + '. The arrow keys read its values.');
      words.textContent = said(plot.cursor.idx);
      legend.replaceChildren(...[...shown.lines].reverse().map(l => h('li', {}, swatch(l), l.label)));
    },
    end() {
      size.disconnect();
      plot?.destroy();
    },
  };
}

const moment = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit' });
const highest = values => values.reduce((m, v) => Math.max(m, v ?? 0), 0);
const farOff = 3; // a limit that is so many times what there is would press the rest flat: it is told, not drawn

// lineChart shows lines over time; at is in seconds. One that is a limit is dashed.
export function lineChart(title, format) {
  const c = chart(title, format, null);
  const newest = l => l.values[l.values.length - 1] ?? null;
  return {
    el: c.el, end: c.end,
    show(at, lines) {
      const data = lines.filter(l => !l.limit), top = highest(data.flatMap(l => l.values));
      const limits = lines.filter(l => l.limit && highest(l.values) > 0), near = limits.filter(l => highest(l.values) <= farOff * top);
      const words = [...data.filter(l => newest(l) !== null).map(l => l.label + ' ' + format(newest(l)) + range(l.values, format)),
        ...limits.filter(l => newest(l) !== null).map(l => l.label + ' ' + format(newest(l)) + (near.includes(l) ? '' : ', too far above to be drawn'))];
      const drawn = [...data, ...near.map(l => ({ ...l, colour: 'c2', dash: true }))];
      c.show({ at, lines: drawn, margin: 0, top: highest(drawn.flatMap(l => l.values)) * 1.08 || 1, summary: (words.join('; ') || 'not known') + (at.length === 1 ? '; one probe yet' : '') });
    },
  };
}

// range says between what values moved.
function range(values, format) {
  const known = values.filter(v => v !== null), low = format(Math.min(...known)), high = format(Math.max(...known));
  return low === high ? '' : ' (' + low + ' to ' + high + ')';
}

// barChart stacks the values of each time on one another, the first line at the bottom.
export function barChart(title, format) {
  const c = chart(title, format, window.uPlot.paths.bars({ size: [.8, 60] }));
  return {
    el: c.el, end: c.end,
    show(at, lines) {
      const sums = at.map(() => 0);
      const stacked = lines.map((l, i) => ({ ...l, own: l.values, pattern: i, values: l.values.map((v, i) => (sums[i] += v ?? 0) || null) }));
      const summary = lines.map(l => l.label + ' ' + format(l.values.reduce((a, b) => a + (b ?? 0), 0))).join(', ');
      c.show({ at, lines: stacked.reverse(), top: highest(sums) * 1.08 || 1, margin: (at[1] - at[0]) / 2, summary }); // the tallest first: the others are drawn over it
    },
  };
}
