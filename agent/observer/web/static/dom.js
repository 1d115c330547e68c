// Builds elements from text alone: nothing that came from a node, a bus or a person is ever read as markup.
import { patch } from './patch.js';

// clean makes characters visible that would move, hide or reorder what stands around them.
export function clean(text) {
  return String(text ?? '').replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    '\ufffd');
}

// h is an element. Attributes: class, on* (a function), data (an object), anything else as it is; null and false leave it out.
export function h(tag, attrs, ...children) {
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs ?? {})) {
    if (v === null || v === undefined || v === false) continue;
    if (k === 'class') el.className = v;
    else if (k.startsWith('on')) (el.does ??= {})[k] = el[k] = v;
    else if (k === 'data') Object.assign(el.dataset, v);
    else el.setAttribute(k, v === true ? '' : clean(v));
  }
  add(el, children);
  return el;
}

function add(el, children) {
  for (const c of children.flat(5)) {
    if (c === null || c === undefined || c === false) continue;
    el.append(c instanceof Node ? c : clean(c));
  }
}

// fill gives an element other children, keeping of the old ones what it can.
export function fill(el, ...children) {
  const next = document.createElement('div');
  add(next, children);
  patch(el, next);
}

export const link = (href, ...text) => h('a', { href }, text);
export const path = (...parts) => '#/' + parts.map(encodeURIComponent).join('/');
export const badge = (text, kind) => h('span', { class: 'badge ' + (kind ?? '') }, text);

const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

// when is a time in the reader's zone; of today without the date. UTC is in its title.
export function when(text) {
  const t = new Date(text);
  if (!text || isNaN(t)) return '';
  const today = t.toDateString() === new Date().toDateString();
  return h('time', { datetime: t.toISOString(), title: t.toISOString() }, (today ? clock : full).format(t));
}

// said is a text of dcshealer's own, whose times in UTC become the reader's.
export const said = text => String(text ?? '').split(/(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?: UTC|Z))/).map((part, i) => (i % 2 ? when(part.replace(' UTC', 'Z').replace(' ', 'T')) : part));

// span is a length of time in words.
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return s + ' s';
  if (s < 3600) return Math.floor(s / 60) + ' min ' + (s % 60) + ' s';
  if (s < 86400) return Math.floor(s / 3600) + ' h ' + Math.floor(s % 3600 / 60) + ' min';
  return Math.floor(s / 86400) + ' d ' + Math.floor(s % 86400 / 3600) + ' h';
}

export function bytes(n) {
  if (n === null || n === undefined) return 'unknown';
  if (Math.abs(n) < 1024) return n + ' B';
  let u = -1;
  do { n /= 1024; u++; } while (Math.abs(n) >= 1024 && u < 4);
  return n.toFixed(n < 10 ? 2 : 1) + ' ' + ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'][u];
}

export const count = n => (n === null || n === undefined ? 'unknown' : Intl.NumberFormat().format(Math.round(n * 100) / 100));

// table has a row for each list of cells, known by its key where it has one. A cell is text, a node, or {cell, keep}: keep stays on one line.
export function table(caption, head, rows, empty) {
  if (!rows.length) return h('p', { class: 'note' }, empty);
  const cells = r => r.map((c, i) => h('td', { 'data-label': head[i], class: c?.keep ? 'keep' : null }, c?.keep ? c.cell : c));
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption }, h('table', {}, h('caption', {}, caption),
    h('thead', {}, h('tr', {}, head.map(t => h('th', { scope: 'col' }, t)))), h('tbody', {}, rows.map(r => h('tr', { data: r.key ? { key: r.key } : {} }, cells(r))))));
}

export const keep = cell => ({ cell, keep: true });
export const row = (key, ...cells) => Object.assign(cells, { key });
export const upper = text => text.charAt(0).toUpperCase() + text.slice(1);
