// What every guard said, the denials first.
import { badge, h, keep, row, said, table } from './dom.js';

export function guardTable(guards) {
  const denied = g => g.verdict !== 'allow';
  const sorted = [...guards].sort((a, b) => denied(b) - denied(a));
  const lift = g => g.lift && denied(g) && !(g.reason ?? '').includes(g.lift) && h('p', { class: 'small' }, 'Lifted by: ', h('span', { class: 'mono' }, g.lift));
  return table('Guards: ' + guards.filter(denied).length + ' of ' + guards.length + ' deny', ['Guard', 'Verdict', 'What it saw, and what lifts a denial'],
    sorted.map(g => row(g.guard, keep(g.guard), badge(g.verdict, denied(g) ? 'critical' : 'good'), [said(g.reason), lift(g)])), 'No guard was asked.');
}
