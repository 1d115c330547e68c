// Chooses the view that the address names, hands it the events, and holds the session.
import { h, fill, when, zone } from './dom.js';
import { get, loadSession, post, session } from './api.js';
import { ask } from './dialog.js';
import { live } from './live.js';
import { run } from './view.js';
import { fleet } from './fleet.js';
import { instance } from './instance.js';
import { node } from './node.js';
import { feed } from './feed.js';
import { alarms } from './alarms.js';
import { trends } from './trends.js';
import { incidents, incident } from './incidents.js';
import { actions, action } from './actions.js';
import { report } from './report.js';
import { controls } from './controls.js';

const views = [
  [/^$/, fleet, 'Fleet', '#/'],
  [/^feed$/, feed, 'Feed', '#/feed'],
  [/^alarms$/, alarms, 'Alarms', '#/alarms'],
  [/^trends$/, trends, 'Trends', '#/trends'],
  [/^incidents$/, incidents, 'Incidents', '#/incidents'],
  [/^incidents\/([^/]+)$/, incident, 'Incident', '#/incidents'],
  [/^actions$/, actions, 'Actions', '#/actions'],
  [/^actions\/([^/]+)$/, action, 'Action', '#/actions'],
  [/^instances\/([^/]+)$/, instance, 'Instance', '#/'],
  [/^nodes\/([^/]+)\/([^/]+)$/, node, 'Node', '#/'],
  [/^report$/, report, 'Report', '#/report'],
  [/^controls$/, controls, 'Controls', '#/controls'],
];

const main = document.getElementById('main');
let shown = null; // {at, body, view}
let turn = 0;

// where takes the address apart; null: it names no view.
function where() {
  const [p, q] = location.hash.replace(/^#(main$|\/)?/, '').split('?');
  for (const [pattern, view, title, nav] of views) {
    const m = pattern.exec(p);
    if (!m) continue;
    try {
      return { view, title, nav, args: m.slice(1).map(decodeURIComponent), params: new URLSearchParams(q) };
    } catch {
      return null; // a % that encodes nothing
    }
  }
  return null;
}

// show draws the view of the address. One of which only the filters have changed stays until the other is there, and so does the focus.
async function show() {
  const mine = ++turn, was = shown, at = where();
  for (const a of document.querySelectorAll('nav a')) {
    if (a.getAttribute('href') === at?.nav) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  const same = Boolean(was && at && was.at.view === at.view && was.at.args.join('/') === at.args.join('/'));
  if (!same) leave();
  if (!session.may_read) return needLogin();
  if (!at) return fill(main, h('h1', {}, 'No such view'), h('p', {}, h('a', { href: '#/' }, 'Go to the fleet')));
  document.title = [...at.args, at.title].join(' · ') + ' · dcshealer';
  const body = same ? was.body : h('div', { 'aria-busy': 'true' }, h('p', { class: 'soft' }, 'Loading …'));
  if (!same) main.replaceChildren(body);
  body.setAttribute('aria-busy', 'true');
  const view = run(at.view(at, refresh), body, restart);
  shown = { at, body, view };
  try {
    await view.load();
  } catch (err) {
    view.end();
    if (mine !== turn) return;
    shown = null;
    fill(body, h('h1', {}, at.title), h('div', { class: 'note critical', role: 'alert' }, err.message), h('p', {}, h('button', { type: 'button', onclick: show }, 'Try again')));
    if (!('status' in err)) console.error(err);
  } finally {
    if (same) was.view.end();
    body.removeAttribute('aria-busy');
  }
}

function leave() {
  shown?.view.end();
  shown = null;
}

// refresh loads what is shown anew.
const refresh = () => (shown ? shown.view.load().catch(show) : show());

function needLogin() {
  fill(main, h('h1', {}, 'Log in'), session.has_token
    ? [h('p', {}, 'The token is in the file that dashboard.token_file in the config of dcshealer names.'), h('p', {}, h('button', { type: 'button', class: 'main', onclick: login }, 'Log in'))]
    : h('p', { class: 'note warning' }, 'There is no token: open this page as http://127.0.0.1 on the machine of dcshealer, or set dashboard.token_file in its config.'));
}

async function login() {
  const done = await ask('Log in', [['token', 'Token', { type: 'password', required: true, autocomplete: 'current-password' }]], 'Log in', v => post('/login', v));
  if (done) restart();
}

async function logout() {
  await post('/logout').catch(() => {});
  restart();
}

const connection = document.getElementById('connection');

// told shows whether what is shown is of now.
function told(state, heard) {
  const was = connection.dataset.state;
  if (state === was && state !== 'lost') return;
  connection.dataset.state = state;
  fill(connection, state === 'live' ? 'live' : state === 'wait' ? 'connecting' : heard ? ['connection lost, showing data of ', when(heard)] : 'no connection, trying again');
  if (state === 'live') refresh(); // what happened before it was connected brought no event
}

const announced = new Set();

// announce has a screen reader say a critical alarm, once while it stands.
function announce(a) {
  const name = JSON.stringify([a.instance, a.metric, a.node, a.since ?? a.id]);
  if (a.severity !== 'critical' || a.status === 'resolved' || announced.has(name)) return;
  announced.add(name);
  document.getElementById('announce').textContent = 'Critical alarm: ' + a.instance + ': ' + a.msg;
}

function onEvent(kind, data) {
  if (kind === 'alarm') announce(data);
  shown?.view.event(kind, data);
}

const connected = live(onEvent, told, restart);

// restart looks anew at what the reader may do, and at all that is shown.
async function restart() {
  try {
    await loadSession();
  } catch (err) {
    connected.lost();
    if (!shown) fill(main, h('h1', {}, 'No connection'), h('div', { class: 'note critical', role: 'alert' }, err.message));
    return;
  }
  if (document.hidden) return;
  document.getElementById('login').hidden = !session.has_token || session.may_change;
  document.getElementById('logout').hidden = !session.may_change;
  if (session.may_read) {
    connected.start();
    refresh();
  } else {
    rest();
    leave();
    show();
  }
}

document.getElementById('login').addEventListener('click', login);
document.getElementById('logout').addEventListener('click', logout);
document.getElementById('zone').textContent = 'Times are in ' + zone;
document.querySelector('.skip').addEventListener('click', e => { e.preventDefault(); main.focus(); });
window.addEventListener('hashchange', async () => {
  const was = shown?.body;
  await show();
  if (shown?.body === was) return;
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show); // charts take their colours when they are made

// A browser has six connections to one server: a tab that nobody sees gives its own back, and looks anew when it is seen again.
function rest() {
  connected.rest();
  told('wait');
}
window.addEventListener('pagehide', rest);
window.addEventListener('pageshow', e => { if (e.persisted) restart(); });
document.addEventListener('visibilitychange', () => (document.hidden ? rest() : restart()));
restart();
