// The log of decisions and actions, and one of them whole.
import { badge, h, keep, link, path, row, said, table, upper, when } from './dom.js';
import { get } from './api.js';
import { filters } from './filters.js';
import { guardTable } from './guards.js';

const kinds = { succeeded: 'good', running: 'notice', planned: '', denied: 'warning', ineffective: 'warning', failed: 'critical', interrupted: 'critical', unsupported: 'warning' };
export const outcomeBadge = o => badge(o === 'planned' ? 'planned (dry run)' : o, kinds[o]);
const actionNames = ['', 'reclaim-expired', 'reattach-replica', 'purge-memory', 'evict-near-expiry', 'kill-idle-clients'];
const why = r => r.error || (r.denied_by?.length ? 'denied by ' + r.denied_by.join(', ') : '');

export const actionTable = list => table('Newest first', ['Decided', 'Instance', 'Node', 'Action', 'Mode', 'Outcome', 'Cause', 'Why'],
  list.map(r => row(r.id, keep(link(path('actions', r.id), when(r.at))), keep(r.instance), keep(r.node), keep(r.action || 'none'), keep(r.mode), outcomeBadge(r.outcome), keep(r.cause), why(r))), 'No decision to show.');

export function actions({ params }) {
  const q = Object.fromEntries(['instance', 'action', 'outcome', 'since'].map(k => [k, params.get(k)]));
  let list, s;
  return {
    async load() {
      [list, s] = await Promise.all([get('/actions', { ...q, limit: 200 }), get('/status')]);
    },
    draw: () => [h('h1', {}, 'Decisions and actions'), filters('#/actions', params, [
      ['instance', 'Instance', ['', ...s.instances.map(i => i.instance)]], ['action', 'Action', actionNames], ['outcome', 'Outcome', ['', ...Object.keys(kinds)]],
      ['since', 'Since', [['', 'the beginning'], ['1h', '1 hour'], ['24h', '24 hours'], ['7d', '7 days'], ['30d', '30 days']]]]), actionTable(list)],
    event: kind => (kind === 'action' ? 'load' : null),
  };
}

const seconds = s => (s < 1 ? (s * 1000).toFixed(1) + ' ms' : s.toFixed(2) + ' s');

function commands(r) {
  if (!r.commands?.length) return r.planned?.length ? [h('p', { class: 'small soft' }, 'Planned, not sent:'), h('pre', { tabindex: 0 }, r.planned.map(c => c.join(' ')).join('\n'))] : null;
  return table('Commands, as they were sent', ['At', 'Node', 'Command', 'Reply', 'Took'],
    r.commands.map(c => [keep(when(c.at)), c.node ?? '', h('span', { class: 'mono' }, c.args.join(' ') + (c.count ? ' (' + c.count + ' calls)' : '')), c.reply, keep(seconds(c.took))]), '');
}

// recordDetails is a record's plan, commands, effect and guards.
export const recordDetails = r => h('div', { class: 'stack' }, r.error && h('p', { class: 'note warning' }, r.error), commands(r),
  r.effect_text.length > 0 && h('div', {}, h('p', { class: 'soft small' }, 'What it brought'), h('ul', { class: 'plain' }, r.effect_text.map(t => h('li', {}, said(t))))),
  r.notes?.map(n => h('p', { class: 'note' }, when(n.at), ': ', said(n.text))), guardTable(r.guards));

const raw = (title, v) => v && h('details', {}, h('summary', {}, title), h('pre', { tabindex: 0 }, JSON.stringify(v, null, 2)));

export function action({ args: [id] }) {
  let r;
  return {
    async load() {
      r = await get('/actions/' + encodeURIComponent(id));
    },
    draw: () => [h('div', { class: 'row spread' }, h('h1', {}, r.action ? r.action + ' on ' + r.node : 'No action for ' + r.node), outcomeBadge(r.outcome)),
      h('p', {}, link(path('instances', r.instance), r.instance), ', cause ', h('b', {}, r.cause || 'unknown'), ', mode ' + r.mode + ', ' + (r.trigger === 'manual' ? 'by hand' : 'by alarm') + ', decided ', when(r.at),
        r.finished ? [', finished ', when(r.finished)] : ''),
      h('p', { class: 'note' }, said(upper(r.conclusion) + '.')), r.incident && h('p', {}, 'Part of ', link(path('incidents', r.incident), 'incident ' + r.incident)), recordDetails(r),
      h('h2', {}, 'As the journal has it'), raw('Expected', r.expect), raw('Before', r.before), raw('After', r.after), raw('Effect', r.effect),
      h('p', { class: 'soft small mono' }, 'record ' + r.id + ', by ' + (r.operator.by ?? 'the healer') + ' on ' + r.operator.host + ', hash ' + r.hash)],
    event: (kind, data) => (kind === 'action' && data.id === r.id ? 'load' : null),
  };
}
