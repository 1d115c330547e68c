// Incidents, and one of them as a story with the plans and what the guards said.
import { badge, h, keep, link, path, row, said, span, table, upper, when } from './dom.js';
import { get } from './api.js';
import { button, take } from './dialog.js';
import { recordDetails } from './actions.js';
import { filters } from './filters.js';

const endings = { repair: 'repaired', other: 'by a person or another controller', itself: 'by itself', unknown: 'by itself or by a person', 'came-back': 'repaired, and came back', abandoned: 'not watched any more' };
const began = i => [i.alarmed, i.seen, i.opened].filter(Boolean).sort()[0];
const lasted = i => span((i.closed ? Date.parse(i.closed) : Date.now()) - Date.parse(began(i)));
const stateOf = i => (i.closed ? badge(endings[i.resolution] ?? i.resolution, 'good') : badge('open', 'critical'));

// openOf changes when an incident of the instance comes, is taken or ends; nothing less has a view loaded anew.
const openOf = i => JSON.stringify(i.open_incidents.map(o => [o.id, o.cause, o.ack?.at]));

export function incidents({ params }) {
  const q = { instance: params.get('instance'), open: params.get('open'), since: params.get('since') ?? '30d', limit: 200 };
  let list, s, was;
  return {
    async load() {
      [list, s] = await Promise.all([get('/incidents', q), get('/status')]);
      was = new Map(s.instances.map(i => [i.instance, openOf(i)]));
    },
    draw: () => [h('h1', {}, 'Incidents'), filters('#/incidents', params, [
      ['instance', 'Instance', ['', ...s.instances.map(i => i.instance)]], ['open', 'Which', [['', 'all'], ['true', 'open']]], ['since', 'Since', [['24h', '24 hours'], ['7d', '7 days'], ['', '30 days'], ['365d', 'a year']]]]),
    table('Newest first', ['Began', 'Lasted', 'Instance', 'Node', 'What', 'Cause', 'State', 'Taken by'],
      list.map(i => row(i.id, keep(link(path('incidents', i.id), when(began(i)))), keep(lasted(i)), i.instance, i.node, i.metric, i.cause, stateOf(i), i.ack?.by ?? '')), 'No incident to show.')],
    event: (kind, data) => (kind === 'state' && was.get(data.instance) !== openOf(data) ? 'load' : null),
  };
}

const story = events => h('ol', { class: 'story' }, events.map(e => h('li', { class: e.kind }, h('div', { class: 'row small soft' }, when(e.at), badge(e.kind), e.record && link(path('actions', e.record), 'record')),
  h('div', {}, said(e.text)), e.details && h('ul', { class: 'small' }, e.details.map(d => h('li', {}, said(d)))))));

export function incident({ args: [id] }, again) {
  let r, i, mine;
  return {
    async load() {
      r = await get('/incidents/' + encodeURIComponent(id));
      i = r.incident;
      mine = openOf({ open_incidents: i.closed ? [] : [i] });
    },
    draw: () => [h('div', { class: 'row spread' }, h('h1', {}, i.metric + ' on ' + i.node), h('span', { class: 'row' }, stateOf(i), !i.closed && button('Take it', () => take(i.id), again))),
      h('p', {}, link(path('instances', i.instance), i.instance), ', cause ', h('b', {}, i.cause || 'unknown'), ', began ', when(began(i)), ', lasted ' + lasted(i)), h('p', { class: 'note' }, i.msg),
      i.ack && h('p', { class: 'note' }, 'Taken by ' + i.ack.by + ', ', when(i.ack.at), i.ack.note ? ': ' + i.ack.note : ''), i.closed && h('p', {}, 'Ended ', when(i.closed), ': ', said(i.text)),
      h('p', { class: 'soft small mono' }, i.id), h('h2', {}, 'Did it act, and why?'), h('p', { class: 'note' }, said(upper(r.conclusion) + '.')),
      [...r.records].reverse().map((rec, n) => h('details', { open: n === 0, data: { key: rec.id } }, h('summary', {}, (rec.action || 'no action') + ': ' + rec.outcome + ', ', when(rec.at)), recordDetails(rec))),
      h('h2', {}, 'Story'), story(r.story)],
    event(kind, data) {
      if (kind === 'action') return data.incident === i.id ? 'load' : null;
      return kind === 'state' && data.instance === i.instance && openOf({ open_incidents: data.open_incidents.filter(o => o.id === i.id) }) !== mine ? 'load' : null;
    },
  };
}
