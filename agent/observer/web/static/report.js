// The evidence for enabling live repair: what dry run would have done, what live repair did, and what the guards refused.
import { badge, h, link, path, said, upper, when } from './dom.js';
import { get } from './api.js';
import { button, setLive } from './dialog.js';
import { filters } from './filters.js';

const actionCard = (instance, a, again) => h('section', { class: 'card', 'aria-label': a.action + ' on ' + instance },
  h('div', { class: 'row spread' }, h('h3', {}, a.action), badge(a.mode === 'live' ? 'live' : 'dry run', a.mode === 'live' ? 'notice' : '')),
  h('p', {}, upper(a.conclusion) + '.'), a.facts.some(f => f.text) && h('dl', {}, a.facts.filter(f => f.text).map(f => [h('dt', {}, upper(f.name)), h('dd', {}, f.text)])),
  h('p', { class: 'row small' }, link('#/actions?' + new URLSearchParams({ instance, action: a.action }), 'Its decisions'),
    a.mode === 'live' ? button('Disable live ' + a.action, () => setLive(instance, a.action, false), again) : button('Enable live ' + a.action, () => setLive(instance, a.action, true), again)));

export function report({ params }, again) {
  let r, s;
  return {
    async load() {
      [r, s] = await Promise.all([get('/report', { instance: params.get('instance'), since: params.get('since') ?? '30d' }), get('/status')]);
    },
    draw: () => [h('h1', {}, 'Evidence for live repair'), filters('#/report', params, [
      ['instance', 'Instance', ['', ...s.instances.map(i => i.instance)]], ['since', 'Since', [['24h', '24 hours'], ['7d', '7 days'], ['', '30 days'], ['365d', 'a year']]]]),
    h('p', { class: 'soft' }, 'From ', when(r.since), ' to ', when(r.until), '. What each action would have done in dry run, and did live.'), r.notes.map(n => h('p', { class: 'note' }, said(upper(n) + '.'))),
    r.instances.map(e => [h('h2', {}, link(path('instances', e.instance), e.instance)), h('p', {}, upper(e.text) + '.'), h('div', { class: 'grid' }, e.actions.map(a => actionCard(e.instance, a, again)))])],
    event: kind => (kind === 'action' ? 'load' : null),
  };
}
