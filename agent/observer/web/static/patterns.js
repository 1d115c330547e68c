// How a line or bar of a chart is told from another without its colour: a dash, or a pattern of its own.
import { h } from './dom.js';

export const colour = name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();

const side = 8;
const strokes = [
  [], // plain
  [[0, 8, 8, 0], [-2, 2, 2, -2], [6, 10, 10, 6]], // rising
  [[0, 4, 8, 4]], // level
  [[0, 0, 8, 8], [-2, 6, 2, 10], [6, -2, 10, 2]], // falling
  [[4, 0, 4, 8]], // upright
  [[0, 4, 8, 4], [4, 0, 4, 8]], // crossed
  [[0, 8, 8, 0], [0, 0, 8, 8]], // crossed aslant
];

// tile is one piece of a line's pattern.
function tile(l) {
  const c = h('canvas', { width: side, height: side }), g = c.getContext('2d');
  g.fillStyle = colour(l.colour);
  g.fillRect(0, 0, side, side);
  g.strokeStyle = colour('card');
  g.lineWidth = 1.5;
  for (const [x, y, x2, y2] of strokes[(l.pattern ?? 0) % strokes.length]) {
    g.beginPath();
    g.moveTo(x, y);
    g.lineTo(x2, y2);
    g.stroke();
  }
  return c;
}

export function pattern(l) {
  const piece = tile(l);
  return piece.getContext('2d').createPattern(piece, 'repeat');
}

// swatch is a sample of a line.
export function swatch(l) {
  const c = h('canvas', { width: 18, height: l.pattern === undefined ? 3 : 12, 'aria-hidden': 'true' }), g = c.getContext('2d');
  g.fillStyle = l.pattern === undefined ? colour(l.colour) : pattern(l);
  if (l.dash) [0, 7, 14].forEach(x => g.fillRect(x, 0, 4, 12));
  else g.fillRect(0, 0, 18, 12);
  return c;
}
