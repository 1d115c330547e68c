// What every guard said, the denials first.
import { badge, h, keep, table } from './dom.js';

export function guardTable(guards) {
  const denied = g => g.verdict !== 'allow';
  const sorted = [...guards].sort((a, b) => denied(b) - denied(a));
  const rows = sorted.map(g => [keep(g.guard), badge(g.verdict, denied(g) ? 'critical' : 'good'), [g.reason, g.lift && denied(g) ? h('p', { class: 'mono small' }, g.lift) : '']]);
  return table('Guards: ' + guards.filter(denied).length + ' of ' + guards.length + ' deny', ['Guard', 'Verdict', 'What it saw, and what lifts a denial'], rows, 'No guard was asked.');
}
