// SPDX-License-Identifier: Apache-2.0
// Bytes from each rank to each other, on one canvas.
import { useState } from 'preact/hooks';
import { box, Canvas, font } from './canvas.js';
import { bytes, percent } from './format.js';
import { html } from './html.js';
import { rampAt } from './theme.js';

const kLeft = 34;
const kTop = 22;

export function trafficLayout(matrix, width) {
  const cell = Math.min(88, (width - kLeft) / matrix.length);
  const most = Math.max(1, ...matrix.map(row => Math.max(...row)));
  return { cell, most, height: kTop + cell * matrix.length };
}

function draw(context, plan, palette, matrix, focus) {
  font(context, palette, 11);
  context.textAlign = 'center';
  const every = 2 ** Math.max(0, Math.ceil(Math.log2(26 / plan.cell)));
  context.fillStyle = palette.muted;
  for (let rank = 0; rank < matrix.length; rank += every) {
    context.fillText(String(rank), kLeft + (rank + 0.5) * plan.cell, 10);
    context.fillText(String(rank), kLeft / 2, kTop + (rank + 0.5) * plan.cell);
  }
  const side = plan.cell - (plan.cell > 6 ? 2 : plan.cell > 4 ? 0.5 : 0);
  matrix.forEach((row, from) => row.forEach((sent, to) => {
    const tint = rampAt(palette, sent / plan.most);
    context.fillStyle = from === to ? palette.surface : tint.fill;
    box(context, kLeft + to * plan.cell, kTop + from * plan.cell, side, side, plan.cell > 14 ? 3 : 0);
    context.fill();
    if (plan.cell >= 56 && from !== to) {
      context.fillStyle = tint.ink;
      context.fillText(bytes(sent), kLeft + (to + 0.5) * plan.cell - 1, kTop + (from + 0.5) * plan.cell);
    }
  }));
  if (!focus) return;
  context.strokeStyle = palette.text;
  context.lineWidth = 2;
  context.strokeRect(kLeft + focus.to * plan.cell - 1, kTop + focus.from * plan.cell - 1, plan.cell, plan.cell);
}

export function Traffic({ matrix }) {
  const [focus, setFocus] = useState(null);
  const all = matrix.flat().reduce((sum, value) => sum + value, 0);
  const inside = (plan, x, y) => {
    const [to, from] = [Math.floor((x - kLeft) / plan.cell), Math.floor((y - kTop) / plan.cell)];
    return x >= kLeft && y >= kTop && to < matrix.length && from < matrix.length ? { from, to } : null;
  };
  const onArrow = (plan, pressed) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[pressed];
    if (!step) return false;
    const clamp = value => Math.max(0, Math.min(matrix.length - 1, value));
    setFocus(focus ? { from: clamp(focus.from + step[0]), to: clamp(focus.to + step[1]) } : { from: 0, to: Math.min(1, matrix.length - 1) });
    return true;
  };
  return html`<div>
    <${Canvas} testId="traffic" layout=${width => trafficLayout(matrix, width)} draw=${(context, plan, palette) => draw(context, plan, palette, matrix, focus)}
      onPoint=${(plan, x, y, kind) => setFocus(kind === 'leave' ? null : inside(plan, x, y))} onArrow=${onArrow} label="Bytes sent from each rank (rows) to each other rank (columns)" />
    <p class="hint" aria-live="polite">${focus ? `rank ${focus.from} → rank ${focus.to}: ${bytes(matrix[focus.from][focus.to])}, ${percent(all ? matrix[focus.from][focus.to] / all : 0)} of all` : 'Rows send, columns receive.'}</p>
  </div>`;
}
