// Chooses the view that the address names, keeps it up to date by events, and holds the session.
import { h, fill, zone } from './dom.js';
import { get, listen, loadSession, post, session } from './api.js';
import { ask } from './dialog.js';
import { fleet, instance } from './fleet.js';
import { node } from './node.js';
import { feed } from './feed.js';
import { trends } from './trends.js';
import { incidents, incident } from './incidents.js';
import { actions, action } from './actions.js';

const views = [
  [/^$/, fleet, 'Fleet', '#/'],
  [/^feed$/, feed, 'Feed', '#/feed'],
  [/^trends$/, trends, 'Trends', '#/trends'],
  [/^incidents$/, incidents, 'Incidents', '#/incidents'],
  [/^incidents\/([^/]+)$/, incident, 'Incident', '#/incidents'],
  [/^actions$/, actions, 'Actions', '#/actions'],
  [/^actions\/([^/]+)$/, action, 'Action', '#/actions'],
  [/^instances\/([^/]+)$/, instance, 'Instance', '#/'],
  [/^nodes\/([^/]+)\/([^/]+)$/, node, 'Node', '#/'],
];

const main = document.getElementById('main');
let current = null; // the view that is shown: {event, end}
let turn = 0;
let source = null;

// where takes the address apart.
function where() {
  const [p, q] = location.hash.replace(/^#\/?/, '').split('?');
  for (const [pattern, view, title, nav] of views) {
    const m = pattern.exec(p);
    if (m) return { view, title, nav, args: m.slice(1).map(decodeURIComponent), params: new URLSearchParams(q) };
  }
  return null;
}

async function show(moved) {
  const mine = ++turn;
  if (location.hash === '#main') return; // the skip link
  current?.end?.();
  current = null;
  const at = where();
  for (const a of document.querySelectorAll('nav a')) {
    if (a.getAttribute('href') === at?.nav) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  if (!session.may_read) return needLogin();
  if (!at) return fill(main, h('h1', {}, 'No such view'), h('p', {}, h('a', { href: '#/' }, 'Go to the fleet')));
  document.title = [...at.args, at.title].join(' · ') + ' · dcshealer';
  const body = h('div', { 'aria-busy': 'true' }, h('p', { class: 'soft' }, 'Loading …'));
  fill(main, body);
  try {
    const view = await at.view(body, at, show);
    if (mine !== turn) return view?.end?.(); // another was chosen meanwhile
    current = view;
  } catch (err) {
    if (mine !== turn) return;
    if (err.status === 401) return restart();
    fill(body, h('h1', {}, at.title), h('div', { class: 'note critical', role: 'alert' }, err.message), h('button', { onclick: () => show() }, 'Try again'));
    if (!('status' in err)) console.error(err);
  }
  body.removeAttribute('aria-busy');
  if (moved) main.focus({ preventScroll: true });
}

function needLogin() {
  fill(main, h('h1', {}, 'Log in'), session.has_token
    ? [h('p', {}, 'The token is in the file that dashboard.token_file in the config of dcshealer names.'), h('button', { class: 'main', onclick: login }, 'Log in')]
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
const said = { live: 'live', lost: 'connection lost, trying again', ended: 'connection lost, trying again', wait: 'connecting' };

function told(state) {
  connection.dataset.state = state === 'ended' ? 'lost' : state;
  connection.textContent = said[state];
  if (state === 'ended') setTimeout(restart, 5000); // a browser does not try again after an error reply
}

function onEvent(kind, data) {
  if (kind === 'alarm' && data.severity === 'critical' && data.status !== 'resolved') {
    document.getElementById('announce').textContent = 'Critical alarm: ' + data.instance + ': ' + data.msg;
  }
  current?.event?.(kind, data);
}

// restart looks anew at what the reader may do.
async function restart() {
  source?.close();
  source = null;
  try {
    await loadSession();
  } catch (err) {
    told('ended');
    if (!main.childElementCount || !current) fill(main, h('h1', {}, 'No connection'), h('div', { class: 'note critical', role: 'alert' }, err.message));
    return;
  }
  document.getElementById('login').hidden = !session.has_token || session.may_change;
  document.getElementById('logout').hidden = !session.may_change;
  if (session.may_read) source = listen(onEvent, told);
  else told('wait');
  show();
}

document.getElementById('login').addEventListener('click', login);
document.getElementById('logout').addEventListener('click', logout);
document.getElementById('zone').textContent = 'Times are in ' + zone;
window.addEventListener('hashchange', () => show(true));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => show()); // charts take their colours when they are made

// A browser has six connections to one server: a tab that nobody sees gives its own back, and looks anew when it is seen again.
function rest() {
  source?.close();
  source = null;
  told('wait');
}
window.addEventListener('pagehide', rest);
window.addEventListener('pageshow', e => { if (e.persisted) restart(); });
document.addEventListener('visibilitychange', () => (document.hidden ? rest() : restart()));
restart();
