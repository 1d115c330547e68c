// Incidents, and one of them as a story with the plans and what the guards said.
import { badge, fill, h, keep, link, path, span, table, when } from './dom.js';
import { get } from './api.js';
import { button, take } from './dialog.js';
import { recordDetails } from './actions.js';
import { filters } from './filters.js';

const endings = { repair: 'repaired', other: 'by a person or another controller', itself: 'by itself', unknown: 'by itself or by a person', 'came-back': 'repaired, and came back', abandoned: 'not watched any more' };
const began = i => [i.alarmed, i.seen, i.opened].filter(Boolean).sort()[0];
const lasted = i => span((i.closed ? Date.parse(i.closed) : Date.now()) - Date.parse(began(i)));
const stateOf = i => (i.closed ? badge(endings[i.resolution] ?? i.resolution, 'good') : badge('open', 'critical'));

// openOf changes when an incident of the instance comes, is taken or ends; a view is drawn anew for nothing less.
const openOf = i => JSON.stringify(i.open_incidents.map(o => [o.id, o.cause, o.ack?.at]));

export async function incidents(body, { params }, again) {
  const q = { instance: params.get('instance'), open: params.get('open'), since: params.get('since') ?? '30d', limit: 200 };
  const [list, s] = await Promise.all([get('/incidents', q), get('/status')]);
  fill(body, h('h1', {}, 'Incidents'), filters('#/incidents', params, [
    ['instance', 'Instance', ['', ...s.instances.map(i => i.instance)]], ['open', 'Which', [['', 'all'], ['true', 'open']]], ['since', 'Since', [['', '30 days'], ['24h', '24 hours'], ['7d', '7 days'], ['365d', 'a year']]]]),
  table('Newest first', ['Began', 'Lasted', 'Instance', 'Node', 'What', 'Cause', 'State', 'Taken by'],
    list.map(i => [keep(link(path('incidents', i.id), when(began(i)))), keep(lasted(i)), i.instance, i.node, i.metric, i.cause, stateOf(i), i.ack?.by ?? '']), 'No such incident.'));
  const was = new Map(s.instances.map(i => [i.instance, openOf(i)]));
  return { event(kind, data) { if (kind === 'state' && was.get(data.instance) !== openOf(data)) again(); } };
}

function story(events) {
  return h('ol', { class: 'story' }, events.map(e => h('li', { class: e.kind }, h('div', { class: 'row small soft' }, when(e.at), badge(e.kind), e.record && link(path('actions', e.record), 'record')),
    h('div', {}, e.text), e.details && h('ul', { class: 'small' }, e.details.map(d => h('li', {}, d))))));
}

// verdict answers the first question that a reader has.
function verdict(r) {
  const last = r.records[r.records.length - 1];
  if (!last) return 'No decision has been written yet.';
  if (last.outcome === 'planned') return 'It did not act: dry run. Enable it with: dcshealer live enable ' + last.instance + ' --action ' + last.action + ' --for 2h --reason WHY';
  if (last.denied_by?.length) return 'It did not act: denied by ' + last.denied_by.join(', ') + '.';
  if (!last.action) return 'It did not act: ' + (last.error || 'no action cures this cause.');
  return 'It acted: ' + last.action + ' on ' + last.node + ', ' + last.outcome + (last.error ? ': ' + last.error : '') + '.';
}

export async function incident(body, { args: [id] }, again) {
  const r = await get('/incidents/' + encodeURIComponent(id)), i = r.incident;
  fill(body, h('div', { class: 'row spread' }, h('h1', {}, i.metric + ' on ' + i.node), h('span', { class: 'row' }, stateOf(i), button('Take it', () => take(i.id), again))),
    h('p', {}, link(path('instances', i.instance), i.instance), ', cause ', h('b', {}, i.cause || 'unknown'), ', began ', when(began(i)), ', lasted ' + lasted(i)), h('p', { class: 'note' }, i.msg),
    i.ack && h('p', { class: 'note' }, 'Taken by ' + i.ack.by + ', ', when(i.ack.at), i.ack.note ? ': ' + i.ack.note : ''), i.closed && h('p', {}, 'Ended ', when(i.closed), ': ' + (i.text ?? '')),
    h('p', { class: 'soft small mono' }, i.id), h('h2', {}, 'Did it act, and why?'), h('p', { class: 'note' }, verdict(r)),
    [...r.records].reverse().map((rec, n) => h('details', { open: n === 0 }, h('summary', {}, (rec.action || 'no action') + ': ' + rec.outcome + ', ', when(rec.at)), recordDetails(rec, false))),
    h('h2', {}, 'Story'), story(r.story));
  const mine = openOf({ open_incidents: i.closed ? [] : [i] });
  return {
    event(kind, data) {
      if (kind === 'action' && data.incident === i.id) again();
      else if (kind === 'state' && data.instance === i.instance && openOf({ open_incidents: data.open_incidents.filter(o => o.id === i.id) }) !== mine) again();
    },
  };
}
