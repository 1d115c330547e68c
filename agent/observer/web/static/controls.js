// What persons have changed that stands now: pauses, live settings, taken incidents; and the breakers that are open.
import { badge, h, keep, link, path, row, said, table, when } from './dom.js';
import { get, session } from './api.js';
import { button, pause, resetBreaker, resume, setLive } from './dialog.js';

const kinds = { paused: 'warning', live: 'notice', taken: 'good', open: 'critical', 'half-open': 'warning' };

const lift = (c, again) => ({
  pause: () => button('Resume', () => resume(c.instance), again),
  live: () => (c.says === 'live' ? button('Disable live', () => setLive(c.instance, c.action, false), again) : button('Enable live', () => setLive(c.instance, c.action, true), again)),
  breaker: () => button('Reset', () => resetBreaker(c.instance, c.action), again),
}[c.kind]?.());

const scope = c => (c.instance ? link(path('instances', c.instance), c.instance) : 'every instance');
const on = c => (c.incident ? link(path('incidents', c.incident), c.incident) : c.action ?? '');

// standing has a row for each, with a button that lifts it for who may.
export const standing = (list, again) => table('What stands', ['What', 'Instance', 'On', 'Says', 'By', 'Since', 'Until', 'Why', ...(session.may_change ? ['Change'] : [])],
  list.map(c => row([c.kind, c.instance, c.action, c.incident].join(), keep(c.kind), keep(scope(c)), keep(on(c)), badge(c.says, kinds[c.says]), c.by, c.since ? keep(when(c.since)) : '', c.until ? keep(when(c.until)) : 'changed', c.reason,
    ...(session.may_change ? [lift(c, again)] : []))), 'Nothing stands: no live setting at runtime, no pause, no taken incident, no open breaker.');

// changes are what persons did, newest first.
const changes = list => table('The last 30 days, newest first', ['When', 'What'],
  [...list].reverse().map(c => row(String(c.seq), keep(when(c.at)), said(c.text))), 'Nobody has changed anything in 30 days.');

export function controls(_, again) {
  let list, done;
  return {
    every: 10000,
    async load() {
      [list, done] = await Promise.all([get('/controls'), get('/controls', { since: '30d' })]);
    },
    draw: () => [h('div', { class: 'row spread' }, h('h1', {}, 'Controls'), h('span', { class: 'row' }, button('Pause everything', () => pause(), again))),
      h('p', { class: 'soft' }, session.may_change ? 'What you change goes into the journal, with your name and reason.' : session.has_token ? 'Log in to change what stands.' : 'This dashboard only shows. The command line changes: dcshealer pause, resume, live, breaker.'),
      standing(list, again), h('h2', {}, 'Changes'), changes(done)],
    event: kind => (kind === 'state' || kind === 'fleet' ? 'load' : null),
  };
}
