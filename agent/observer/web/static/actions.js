// The log of decisions and actions, and one of them whole.
import { badge, fill, h, keep, link, path, table, when } from './dom.js';
import { get } from './api.js';
import { filters } from './filters.js';
import { guardTable } from './guards.js';

const kinds = { succeeded: 'good', running: 'notice', planned: '', denied: 'warning', ineffective: 'warning', failed: 'critical', interrupted: 'critical', unsupported: 'warning' };
export const outcomeBadge = o => badge(o === 'planned' ? 'planned (dry run)' : o, kinds[o]);
const actionNames = ['', 'reclaim-expired', 'reattach-replica', 'purge-memory', 'evict-near-expiry', 'kill-idle-clients'];
const why = r => r.error || (r.denied_by?.length ? 'denied by ' + r.denied_by.join(', ') : '');

export const actionTable = list => table('Newest first', ['Decided', 'Instance', 'Node', 'Action', 'Mode', 'Outcome', 'Cause', 'Why'],
  list.map(r => [keep(link(path('actions', r.id), when(r.at))), r.instance, r.node, r.action || 'none', keep(r.mode), outcomeBadge(r.outcome), r.cause, why(r)]), 'No such decision.');

export async function actions(body, { params }, again) {
  const q = Object.fromEntries(['instance', 'action', 'outcome', 'since'].map(k => [k, params.get(k)]));
  const [list, s] = await Promise.all([get('/actions', { ...q, limit: 200 }), get('/status')]);
  fill(body, h('h1', {}, 'Decisions and actions'), filters('#/actions', params, [
    ['instance', 'Instance', ['', ...s.instances.map(i => i.instance)]], ['action', 'Action', actionNames], ['outcome', 'Outcome', ['', ...Object.keys(kinds)]],
    ['since', 'Since', [['', 'the beginning'], ['1h', '1 hour'], ['24h', '24 hours'], ['7d', '7 days'], ['30d', '30 days']]]]), actionTable(list));
  return { event(kind) { if (kind === 'action') again(); } };
}

const seconds = s => (s < 1 ? (s * 1000).toFixed(1) + ' ms' : s.toFixed(2) + ' s');

function commands(r) {
  if (!r.commands?.length) return r.planned?.length ? [h('p', { class: 'small soft' }, 'Planned, not sent:'), h('pre', {}, r.planned.map(c => c.join(' ')).join('\n'))] : null;
  return table('Commands, as they were sent', ['At', 'Node', 'Command', 'Reply', 'Took'],
    r.commands.map(c => [keep(when(c.at)), c.node ?? '', h('span', { class: 'mono' }, c.args.join(' ') + (c.count ? ' (' + c.count + ' calls)' : '')), c.reply, keep(seconds(c.took))]), '');
}

// recordDetails is a record's plan, commands and guards; whole adds what was seen before and after.
export function recordDetails(r, whole) {
  return h('div', {}, r.error && h('p', { class: 'note warning' }, r.error), commands(r), guardTable(r.guards),
    r.effect && [h('h3', {}, 'Effect'), h('pre', {}, JSON.stringify(r.effect, null, 2))], r.notes?.map(n => h('p', { class: 'note' }, when(n.at), ': ' + n.text)),
    whole && ['expect', 'before', 'after'].filter(k => r[k]).map(k => h('details', {}, h('summary', {}, k[0].toUpperCase() + k.slice(1)), h('pre', {}, JSON.stringify(r[k], null, 2)))));
}

export async function action(body, { args: [id] }, again) {
  const r = await get('/actions/' + encodeURIComponent(id));
  fill(body, h('div', { class: 'row spread' }, h('h1', {}, r.action ? r.action + ' on ' + r.node : 'No action for ' + r.node), outcomeBadge(r.outcome)),
    h('p', {}, link(path('instances', r.instance), r.instance), ', cause ', h('b', {}, r.cause || 'unknown'), ', mode ' + r.mode + ', ' + r.trigger + ', decided ', when(r.at), r.finished ? [', finished ', when(r.finished)] : ''),
    r.incident && h('p', {}, 'Part of ', link(path('incidents', r.incident), 'incident ' + r.incident)), recordDetails(r, true),
    h('p', { class: 'soft small mono' }, 'record ' + r.id + ', by ' + (r.operator.by ?? 'the healer') + ' on ' + r.operator.host + ', hash ' + r.hash));
  return { event(kind, data) { if (kind === 'action' && data.id === r.id) again(); } };
}
