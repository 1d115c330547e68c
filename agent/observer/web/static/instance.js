// One instance: its state, what stands there by a person's word, and why it acts or not, by every guard.
import { badge, h, link, path, row, table, when } from './dom.js';
import { get, session } from './api.js';
import { button, pause, resetBreaker, resume, setLive } from './dialog.js';
import { actionTable } from './actions.js';
import { card } from './fleet.js';
import { standing } from './controls.js';
import { guardTable } from './guards.js';

function buttons(i, again) {
  if (!session.may_change) return h('p', { class: 'soft small' }, session.has_token ? 'Log in to pause, resume or enable live repair.' : 'This dashboard only shows. The command line changes: dcshealer pause, resume, live, ack.');
  return h('div', { class: 'row' }, i.paused ? button('Resume', () => resume(i.instance), again) : button('Pause', () => pause(i.instance), again),
    Object.entries(i.modes).map(([a, m]) => (m === 'live' ? button('Disable live ' + a, () => setLive(i.instance, a, false), again) : button('Enable live ' + a, () => setLive(i.instance, a, true), again))),
    Object.entries(i.breakers).filter(([, s]) => s !== 'closed').map(([a]) => button('Reset the breaker of ' + a, () => resetBreaker(i.instance, a), again)));
}

const plan = past => p => h('section', { class: 'card', 'aria-label': p.action || 'no action' }, h('h4', {}, p.action ? p.action + ' on ' + p.node : 'No action cures it'),
  h('p', { class: 'small soft' }, 'cause ' + (p.cause || 'unknown') + ', mode ' + p.mode, past ? [', decided ', when(p.at), ', ', link(path('actions', p.record), p.outcome)] : ''),
  p.error && h('p', { class: 'note warning' }, p.error), guardTable(p.guards));

const answer = w => [w.errors.map(e => h('p', { class: 'note critical' }, e)),
  table('Findings of this probe', ['Severity', 'Metric', 'Node', 'What'], w.findings.map(f => row(null, badge(f.severity, f.severity), f.metric, f.node, f.msg)), 'This probe finds nothing wrong.'),
  w.now.length > 0 && [h('h3', {}, 'What it would do now'), w.now.map(plan(false))], w.last.length > 0 && [h('h3', {}, 'At the last decision'), w.last.map(plan(true))]];

export function instance({ args: [name] }, again) {
  let i, nodes, list, stands, reply = () => null;
  const ask = async () => {
    reply = () => h('p', { class: 'soft' }, 'Probing …');
    again();
    reply = await get('/why/' + encodeURIComponent(name)).then(w => () => answer(w), err => () => h('p', { class: 'note warning' }, err.message));
    again();
  };
  return {
    every: 5000,
    async load() {
      const [s, all, actions, controls] = await Promise.all([get('/status'), get('/nodes', { instance: name }), get('/actions', { instance: name, limit: 20 }), get('/controls')]);
      i = s.instances.find(x => x.instance === name);
      if (!i) throw Object.assign(new Error('The config has no instance ' + name), { status: 404 });
      [nodes, list, stands] = [all, actions, controls.filter(c => c.instance === name || c.instance === '')];
    },
    draw: () => [h('h1', {}, name), buttons(i, again), h('div', { class: 'grid wide' }, card(i, nodes, h('h2', {}, 'State'))),
      stands.length > 0 && [h('h2', {}, 'Controls'), standing(stands, again)],
      h('h2', {}, 'Why does it act, or not?'), h('p', {}, h('button', { type: 'button', class: 'main', onclick: ask }, 'Probe now and ask every guard')), h('div', { 'aria-live': 'polite', class: 'stack' }, reply()),
      h('h2', {}, 'Decisions and actions'), actionTable(list)],
    event(kind, data) {
      if (kind === 'state' && data.instance === name) i = data;
      else return kind === 'action' && data.instance === name ? 'load' : null;
      return 'draw';
    },
  };
}
