// The fleet at a glance, and one instance with every guard's word.
import { badge, bytes, count, fill, h, keep, link, path, span, table, when } from './dom.js';
import { get, session } from './api.js';
import { button, pause, resume, setLive } from './dialog.js';
import { actionTable } from './actions.js';
import { guardTable } from './guards.js';

const kinds = { idle: 'good', cooldown: 'good', confirming: 'warning', planning: 'warning', held: 'warning', verifying: 'notice', acting: 'notice', escalated: 'critical' };
const meanings = {
  idle: 'nothing is open', confirming: 'probing a fault', planning: 'diagnosing and asking the guards', held: 'there is a plan, and it may not run now',
  acting: 'commands are going out', verifying: 'waiting for proof', cooldown: 'repaired, watching that it stays so', escalated: 'a person is needed', unknown: 'no healer has seen it',
};
export const stateBadge = s => h('span', { class: 'badge ' + (kinds[s] ?? ''), title: meanings[s] ?? '' }, s);

const share = (part, whole) => (part === null || !whole ? null : part / whole);
const level = x => (x >= .95 ? 'critical' : x >= .8 ? 'warning' : '');

function nodeLine(n) {
  const m = share(n.latest.memory_counted_bytes, n.latest.memory_max_bytes);
  const wrong = n.reach === 'up' && n.role !== n.actual_role;
  return h('li', {}, n.reach === 'up' ? badge('up', 'good') : badge(n.reach, 'critical'), link(path('nodes', n.instance, n.node), n.node),
    h('span', { class: 'soft small' }, n.actual_role || n.role), wrong && badge('should be ' + n.role, 'critical'), n.link_up === false && badge('link down', 'critical'),
    m !== null && [h('span', { class: 'meter ' + level(m), role: 'img', 'aria-label': 'memory ' + Math.round(m * 100) + ' %' }, bar(m)), h('span', { class: 'small' }, Math.round(m * 100) + ' %')]);
}

function bar(x) {
  const i = h('i');
  i.style.width = Math.min(100, x * 100) + '%';
  return i;
}

const modes = i => Object.entries(i.modes).map(([a, m]) => badge(a + ': ' + (m === 'live' ? 'live' : 'dry run'), m === 'live' ? 'notice' : ''));
const breakers = i => Object.entries(i.breakers).filter(([, s]) => s !== 'closed').map(([a, s]) => badge('breaker of ' + a + ': ' + s, 'critical'));
const openIncidents = i => i.open_incidents.map(o => h('p', { class: 'note critical' }, link(path('incidents', o.id), o.metric + ' on ' + o.node), ': ', o.msg, o.ack ? ' (taken by ' + o.ack.by + ')' : ''));

function card(i, nodes) {
  const bad = i.open_incidents.length || i.state === 'escalated' || nodes.some(n => n.reach !== 'up');
  return h('section', { class: 'card' + (bad ? ' bad' : i.paused ? ' warn' : ''), data: { instance: i.instance } },
    h('div', { class: 'row spread' }, h('h3', {}, link(path('instances', i.instance), i.instance)), h('span', { class: 'row' }, i.paused && badge('paused', 'warning'), stateBadge(i.state))),
    h('p', { class: 'soft small' }, meanings[i.state], i.since ? [', since ', when(i.since)] : ''), openIncidents(i),
    h('div', { class: 'row' }, modes(i), breakers(i)),
    i.progress && h('p', { class: 'small' }, i.progress.action + ' on ' + i.progress.node + ': ' + count(i.progress.keys) + ' keys deleted, ' + bytes(i.progress.bytes) + ' freed'),
    i.last_action && h('p', { class: 'small' }, 'Last action: ', link(path('actions', i.last_action.id), i.last_action.action), ' ' + i.last_action.outcome + ', ', when(i.last_action.at)),
    i.blind && h('p', { class: 'small soft' }, i.blind), h('ul', { class: 'nodes' }, nodes.map(nodeLine)));
}

function summary(s) {
  const open = s.instances.reduce((n, i) => n + i.open_incidents.length, 0), paused = s.instances.filter(i => i.paused).length;
  const live = s.instances.filter(i => Object.values(i.modes).includes('live')).length;
  const fact = (n, text) => h('li', {}, h('b', {}, count(n)), ' ', text);
  return [h('ul', { class: 'facts' }, fact(s.instances.length, 'instances'), fact(open, open === 1 ? 'open incident' : 'open incidents'), fact(live, 'with live repair'), fact(paused, 'paused'),
    h('li', {}, s.running ? badge('healer runs', 'good') : badge('no healer runs', 'critical')), h('li', { class: 'small' }, 'bus ', h('span', { class: 'mono' }, s.bus || 'embedded'))),
    s.journal && h('p', { class: 'note critical', role: 'alert' }, 'The journal is ' + s.journal)];
}

// every has a function run at intervals while the tab is seen, one call at a time.
export function every(ms, act) {
  let busy = false;
  const timer = setInterval(async () => {
    if (busy || document.hidden) return;
    busy = true;
    await act().catch(() => {}); // the connection's state is shown in the header
    busy = false;
  }, ms);
  return () => clearInterval(timer);
}

export async function fleet(body, _, again) {
  let [s, nodes] = await Promise.all([get('/status'), get('/nodes')]);
  const draw = () => fill(body, h('div', { class: 'row spread' }, h('h1', {}, 'Fleet'),
    h('span', { class: 'row' }, button('Pause everything', () => pause(), again), button('Resume everything', () => resume(), again))), summary(s),
    s.instances.length ? h('div', { class: 'grid' }, s.instances.map(i => card(i, nodes.filter(n => n.instance === i.instance)))) : h('p', { class: 'note' }, 'The config has no instance.'),
    !nodes.length && h('p', { class: 'note' }, 'No probes are at hand: this process does not have the role agent, or has just started.'));
  draw();
  const end = every(5000, async () => {
    [s, nodes] = await Promise.all([get('/status'), get('/nodes')]);
    redraw(body, draw);
  });
  return {
    end,
    event(kind, data) {
      if (kind === 'state') s.instances = s.instances.map(i => (i.instance === data.instance ? data : i));
      else if (kind === 'fleet') Object.assign(s, data);
      else return;
      redraw(body, draw);
    },
  };
}

// redraw keeps the focus on the link that had it.
function redraw(body, draw) {
  const href = body.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
  draw();
  if (href) body.querySelector('a[href="' + CSS.escape(href) + '"]')?.focus({ preventScroll: true });
}

function controls(i, again) {
  if (!session.may_change) return h('p', { class: 'soft small' }, session.has_token ? 'Log in to pause, resume or enable live repair.' : 'This dashboard only shows. The command line changes: dcshealer pause, resume, live, ack.');
  return h('div', { class: 'row' }, i.paused ? button('Resume', () => resume(i.instance), again) : button('Pause', () => pause(i.instance), again),
    Object.entries(i.modes).map(([a, m]) => (m === 'live' ? button('Disable live ' + a, () => setLive(i.instance, a, false), again) : button('Enable live ' + a, () => setLive(i.instance, a, true), again))));
}

function whyView(w) {
  const plan = (p, past) => h('section', { class: 'card' }, h('h3', {}, p.action ? p.action + ' on ' + p.node : 'No action cures it'),
    h('p', { class: 'small soft' }, 'cause ' + (p.cause || 'unknown') + ', mode ' + p.mode, past ? [', decided ', when(p.at), ', ', link(path('actions', p.record), p.outcome)] : ''), p.error && h('p', { class: 'note warning' }, p.error), guardTable(p.guards));
  return [w.errors.map(e => h('p', { class: 'note critical' }, e)),
    table('Findings of this probe', ['Severity', 'Metric', 'Node', 'What'], w.findings.map(f => [badge(f.severity, f.severity), f.metric, f.node, f.msg]), 'This probe finds nothing wrong.'),
    w.now.length > 0 && [h('h3', {}, 'What it would do now'), w.now.map(p => plan(p, false))], w.last.length > 0 && [h('h3', {}, 'At the last decision'), w.last.map(p => plan(p, true))]];
}

export async function instance(body, { args: [name] }, again) {
  const [s, nodes, list] = await Promise.all([get('/status'), get('/nodes', { instance: name }), get('/actions', { instance: name, limit: 20 })]);
  let i = s.instances.find(x => x.instance === name);
  if (!i) throw Object.assign(new Error('The config has no instance ' + name), { status: 404 });
  const top = h('div'), answer = h('div', { 'aria-live': 'polite' });
  const draw = () => fill(top, h('div', { class: 'row spread' }, h('h1', {}, name), h('span', { class: 'row' }, i.paused && badge('paused', 'warning'), stateBadge(i.state))), controls(i, again),
    h('div', { class: 'grid' }, card(i, nodes)));
  const probe = h('button', { class: 'main', onclick: async () => {
    fill(answer, h('p', { class: 'soft' }, 'Probing …'));
    try {
      fill(answer, whyView(await get('/why/' + encodeURIComponent(name))));
    } catch (err) {
      fill(answer, h('p', { class: 'note warning' }, err.message));
    }
  } }, 'Probe now and ask every guard');
  draw();
  fill(body, top, h('h2', {}, 'Why does it act, or not?'), h('p', {}, probe), answer, h('h2', {}, 'Decisions and actions'), actionTable(list));
  return { event(kind, data) { if (kind === 'state' && data.instance === name) { i = data; draw(); } } };
}
