// SPDX-License-Identifier: Apache-2.0
// The expert heat map on one canvas: a row for each MoE layer; columns are slots in rank order, experts, or ranks. Copies of an expert are
// outlined together, because what matters is how its tokens are shared.
import { useState } from 'preact/hooks';
import { box, Canvas, font } from './canvas.js';
import { cellText, kTop, mapLayout } from './expert_layout.js';
import { number, ratio } from './format.js';
import { html } from './html.js';
import { rampAt } from './theme.js';

function drawHeads(context, plan, palette) {
  font(context, palette, 11);
  context.fillStyle = palette.muted;
  context.textAlign = 'center';
  const head = (label, left, right) => {
    if (context.measureText(label).width < right - left + 14) context.fillText(label, (left + right) / 2, 11);
  };
  if (plan.view === 'slots') {
    for (let rank = 0; rank < plan.groups; ++rank) {
      const [left, right] = [plan.x(rank * plan.perRank), plan.x((rank + 1) * plan.perRank - 1) + plan.cell];
      head(right - left > 60 ? `EP rank ${rank}` : `${rank}`, left, right);
    }
  } else {
    const every = Math.max(1, Math.ceil(30 / plan.cell));
    for (let column = 0; column < plan.across; column += every) {
      head(plan.view === 'ranks' && plan.cell > 70 ? `EP rank ${column}` : String(column), plan.x(column), plan.x(column) + plan.cell);
    }
  }
  context.textAlign = 'right';
  context.fillText('max/mean', plan.width, 11);
}

function drawCell(context, plan, one, x, y, height, palette, row) {
  const width = Math.max(1, plan.cell - (plan.cell > 6 ? 2 : plan.cell > 3 ? 1 : 0));
  if (one.empty) {
    context.strokeStyle = palette.border;
    context.lineWidth = 1;
    if (plan.cell > 6) {
      context.setLineDash([2, 2]);
      context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
      context.setLineDash([]);
    }
    return;
  }
  const tint = rampAt(palette, one.tokens / row.most);
  context.fillStyle = tint.fill;
  box(context, x, y, width, height, plan.cell > 12 ? 3 : 0);
  context.fill();
  const label = plan.view === 'ranks' ? number(one.tokens) : plan.view === 'slots' ? String(one.expert) : '';
  if (label && plan.rowHeight >= 20 && plan.cell > (plan.view === 'ranks' ? 44 : 22)) {
    font(context, palette, 10.5, 500);
    context.fillStyle = tint.ink;
    context.textAlign = 'center';
    context.fillText(label, x + width / 2, y + height / 2 + 0.5);
  }
}

// Outlines the cell under the pointer, and every copy of its expert in that layer.
function drawFocus(context, plan, focus, palette) {
  const row = plan.rows[focus.row];
  const one = row?.cells[focus.column];
  if (!one) return;
  const outline = (column, color, width) => {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.strokeRect(plan.x(column) - 1.5, kTop + focus.row * plan.rowHeight - 0.5, plan.cell + 1, plan.rowHeight - 1);
  };
  if (plan.view === 'slots' && one.copies) for (const slot of one.copies) outline(slot, palette.bad, 2);
  outline(focus.column, palette.text, 2.5);
}

function drawMap(context, plan, palette, focus) {
  drawHeads(context, plan, palette);
  plan.rows.forEach((row, index) => {
    const y = kTop + index * plan.rowHeight;
    const middle = y + plan.rowHeight / 2 - 1;
    font(context, palette, plan.rowHeight < 16 ? 9.5 : 11.5);
    context.fillStyle = palette.muted;
    context.textAlign = 'left';
    context.fillText(`layer ${row.layer.layer}`, 0, middle);
    row.cells.forEach((one, column) => drawCell(context, plan, one, plan.x(column), y, plan.rowHeight - 2, palette, row));
    context.fillStyle = row.layer.max_over_mean > 1.5 ? palette.bad : palette.text;
    font(context, palette, plan.rowHeight < 16 ? 9.5 : 11.5, row.layer.max_over_mean > 1.5 ? 600 : 400);
    context.textAlign = 'right';
    context.fillText(ratio(row.layer.max_over_mean), plan.width, middle);
  });
  if (focus) drawFocus(context, plan, focus, palette);
}

const kArrows = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

export function ExpertMap({ data, replica, view, perLayer }) {
  const [focus, setFocus] = useState(null);
  const [pinned, setPinned] = useState(false);
  const [line, setLine] = useState('');
  const move = (plan, next) => {
    setFocus(next);
    setLine(cellText(plan, next));
  };
  const onPoint = (plan, x, y, kind) => {
    const row = Math.floor((y - kTop) / plan.rowHeight);
    const column = plan.columnAt(x);
    const next = kind !== 'leave' && column !== null && row >= 0 && row < plan.rows.length ? { row, column } : null;
    if (kind === 'click') setPinned(next !== null && !(pinned && focus?.row === row && focus?.column === column));
    if (kind === 'click' || !pinned) move(plan, next);
  };
  const onArrow = (plan, pressed) => {
    if (pressed === 'Escape') return setPinned(false), move(plan, null), true;
    const step = kArrows[pressed];
    if (!step) return false;
    const at = focus ?? { row: 0, column: -step[1] };
    const clamp = (value, most) => Math.max(0, Math.min(most - 1, value));
    move(plan, { row: clamp(at.row + step[0], plan.rows.length), column: clamp(at.column + step[1], plan.rows[0].cells.length) });
    setPinned(true);
    return true;
  };
  return html`<div class="expert-map">
    <${Canvas} testId="expert-map" layout=${width => mapLayout(data, replica, view, perLayer, width)} draw=${(context, plan, palette) => drawMap(context, plan, palette, focus)}
      onPoint=${onPoint} onArrow=${onArrow} label=${`Tokens by layer and ${view.slice(0, -1)}; arrow keys move through the cells`} />
    <p class="hint" aria-live="polite">${line || 'Hover over a cell for its expert, its tokens and its copies; click to hold it.'}</p>
  </div>`;
}
