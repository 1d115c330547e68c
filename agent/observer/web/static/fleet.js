// The fleet at a glance.
import { badge, bytes, count, h, link, path, when } from './dom.js';
import { get } from './api.js';
import { button, pause, resume } from './dialog.js';
import { filters } from './filters.js';

const kinds = { idle: 'good', cooldown: 'good', confirming: 'warning', planning: 'warning', held: 'warning', verifying: 'notice', acting: 'notice', escalated: 'critical' };
const meanings = {
  idle: 'nothing is open', confirming: 'probing a fault', planning: 'diagnosing and asking the guards', held: 'there is a plan, and it may not run now',
  acting: 'commands are going out', verifying: 'waiting for proof', cooldown: 'repaired, watching that it stays so', escalated: 'a person is needed', unknown: 'no healer has seen it',
};
export const stateBadge = s => badge(s, kinds[s]);

const share = (part, whole) => (part === null || !whole ? null : part / whole);
const level = x => (x >= .95 ? 'critical' : x >= .8 ? 'warning' : '');

function nodeLine(n) {
  const m = share(n.latest.memory_counted_bytes, n.latest.memory_max_bytes), percent = m > 0 && m < .01 ? 'under 1 %' : Math.round(m * 100) + ' %';
  const wrong = n.reach === 'up' && n.role !== n.actual_role;
  return h('li', { data: { key: n.node } }, n.reach === 'up' ? badge('up', 'good') : badge(n.reach, 'critical'), link(path('nodes', n.instance, n.node), n.node),
    h('span', { class: 'soft small' }, n.actual_role || n.role), wrong && badge('should be ' + n.role, 'critical'), n.link_up === false && badge('link down', 'critical'),
    m !== null && h('span', { class: 'row memory' }, h('span', { class: 'meter ' + level(m), 'aria-hidden': 'true' }, bar(m)), h('span', { class: 'small' }, 'memory ' + percent)));
}

function bar(x) {
  const i = h('i');
  i.style.width = Math.min(100, Math.round(x * 1000) / 10) + '%';
  return i;
}

const modes = i => Object.entries(i.modes).map(([a, m]) => badge(a + ': ' + (m === 'live' ? 'live' : 'dry run'), m === 'live' ? 'notice' : ''));
const breakers = i => Object.entries(i.breakers).filter(([, s]) => s !== 'closed').map(([a, s]) => badge('breaker of ' + a + ': ' + s, 'critical'));
const openIncidents = i => i.open_incidents.map(o => h('p', { class: 'note critical', data: { key: o.id } }, link(path('incidents', o.id), o.metric + ' on ' + o.node), ': ', o.msg, o.ack ? ' (taken by ' + o.ack.by + ')' : ''));

export function card(i, nodes, title) {
  const bad = which.trouble(i, nodes);
  return h('section', { class: 'card' + (bad ? ' bad' : i.paused ? ' warn' : ''), 'aria-label': i.instance, data: { key: i.instance, instance: i.instance } },
    h('div', { class: 'row spread' }, title, h('span', { class: 'row' }, i.paused && badge('paused', 'warning'), stateBadge(i.state))),
    h('p', { class: 'soft small' }, meanings[i.state], i.since ? [', since ', when(i.since)] : ''), openIncidents(i),
    h('div', { class: 'row' }, modes(i), breakers(i)),
    i.progress && h('p', { class: 'small' }, i.progress.action + ' on ' + i.progress.node + ': ' + count(i.progress.keys) + ' keys deleted, ' + bytes(i.progress.bytes) + ' freed'),
    i.last_action && h('p', { class: 'small' }, 'Last action: ', link(path('actions', i.last_action.id), i.last_action.action), ' ' + i.last_action.outcome + ', ', when(i.last_action.at)),
    i.blind && h('p', { class: 'small soft' }, 'Blind: ' + i.blind), h('ul', { class: 'nodes' }, nodes.map(nodeLine)));
}

function summary(s) {
  const open = s.instances.reduce((n, i) => n + i.open_incidents.length, 0), paused = s.instances.filter(i => i.paused).length;
  const live = s.instances.filter(i => Object.values(i.modes).includes('live')).length;
  const fact = (n, text) => h('li', {}, h('b', {}, count(n)), ' ', text);
  return [h('ul', { class: 'facts' }, fact(s.instances.length, s.instances.length === 1 ? 'instance' : 'instances'), fact(open, open === 1 ? 'open incident' : 'open incidents'), fact(live, 'with live repair'), fact(paused, 'paused'),
    h('li', {}, s.running ? badge('healer runs', 'good') : badge('no healer runs', 'critical')), h('li', { class: 'small' }, 'bus ', h('span', { class: 'mono' }, s.bus || 'embedded'))),
    s.journal && h('p', { class: 'note critical', role: 'alert' }, 'The journal is ' + s.journal), s.bus_note && h('p', { class: 'note warning' }, 'The bus: ' + s.bus_note),
    s.notify_note && h('p', { class: 'note warning' }, s.notify_note)];
}

const many = 8; // so many instances are looked through by filters

const which = {
  trouble: (i, nodes) => i.open_incidents.length > 0 || i.state === 'escalated' || Object.values(i.breakers).some(b => b !== 'closed') || nodes.some(n => n.reach !== 'up'),
  paused: i => i.paused,
  live: i => Object.values(i.modes).includes('live'),
};

// chosen are the instances that the filters let through, each with its nodes.
function chosen(s, nodes, params) {
  const text = (params.get('text') ?? '').toLowerCase(), passes = which[params.get('which')];
  const of = Map.groupBy(nodes, n => n.instance);
  return s.instances.map(i => [i, of.get(i.instance) ?? []])
    .filter(([i, its]) => (!passes || passes(i, its)) && [i.instance, ...its.map(n => n.node)].some(name => name.toLowerCase().includes(text)));
}

function cards(s, nodes, params) {
  const list = chosen(s, nodes, params);
  return [s.instances.length >= many && filters('#/', params, [['text', 'Instance or node', null], ['which', 'Which', [['', 'all'], ['trouble', 'in trouble'], ['paused', 'paused'], ['live', 'with live repair']]]]),
    list.length ? h('div', { class: 'grid' }, list.map(([i, its]) => card(i, its, h('h2', {}, link(path('instances', i.instance), i.instance)))))
      : h('p', { class: 'note' }, s.instances.length ? 'No such instance.' : 'The config has no instance.')];
}

export function fleet({ params }, again) {
  let s, nodes;
  return {
    every: 5000,
    async load() {
      [s, nodes] = await Promise.all([get('/status'), get('/nodes')]);
    },
    draw: () => [h('div', { class: 'row spread' }, h('h1', {}, 'Fleet'),
      h('span', { class: 'row' }, button('Pause everything', () => pause(), again), button('Resume everything', () => resume(), again))), summary(s),
    cards(s, nodes, params), !nodes.length && h('p', { class: 'note' }, 'No probes are at hand: this process does not have the role agent, or has just started.')],
    event(kind, data) {
      if (kind === 'state') s.instances = s.instances.map(i => (i.instance === data.instance ? data : i));
      else if (kind === 'fleet') Object.assign(s, data);
      else return null;
      return 'draw';
    },
  };
}
