// SPDX-License-Identifier: Apache-2.0
// All ranks at a glance, on one canvas: a block for each replica and stage, a cell for each rank. Cells show less as there are more of
// them, so that four ranks read like cards and a thousand like a map.
import { useState } from 'preact/hooks';
import { age, ago, bytes, counted, number, percent } from './format.js';
import { box, Canvas, fitted, font, stackedBar } from './canvas.js';
import { html } from './html.js';
import { coordinates, gridLayout } from './rank_layout.js';
import { ranks, server } from './store.js';

export const kShares = [['compute', 'compute'], ['communication', 'communication'], ['stage', 'stage wait'], ['idle', 'idle']];
export const kMemory = [['weights', 'weights'], ['experts', 'experts'], ['kv', 'KV cache'], ['activations', 'activations']];
const stateColor = (health, palette) => ({ ok: palette.good, stalled: palette.warn, failed: palette.bad }[health] ?? palette.muted);

function drawCellFrame(context, cell, palette, selected) {
  const trouble = cell.rank.health === 'failed' || cell.rank.health === 'stalled';
  box(context, cell.x + 0.5, cell.y + 0.5, cell.width - 1, cell.height - 1, cell.kind === 'small' ? 5 : 8);
  context.fillStyle = palette.raised;
  context.fill();
  if (trouble) {
    context.globalAlpha = 0.13;
    context.fillStyle = stateColor(cell.rank.health, palette);
    context.fill();
    context.globalAlpha = 1;
  }
  context.lineWidth = selected ? 2 : 1;
  context.strokeStyle = selected ? palette.accent : trouble ? stateColor(cell.rank.health, palette) : palette.border;
  context.stroke();
}

// A disc, a triangle or a cross: the state is told by form as well as by colour.
function drawState(context, x, y, health, palette) {
  context.fillStyle = context.strokeStyle = stateColor(health, palette);
  context.lineWidth = 2;
  context.beginPath();
  if (health === 'failed') {
    context.moveTo(x - 3.5, y - 3.5); context.lineTo(x + 3.5, y + 3.5);
    context.moveTo(x + 3.5, y - 3.5); context.lineTo(x - 3.5, y + 3.5);
    context.stroke();
  } else if (health === 'stalled') {
    context.moveTo(x, y - 4.5); context.lineTo(x + 4.5, y + 3.5); context.lineTo(x - 4.5, y + 3.5);
    context.fill();
  } else {
    context.arc(x, y, 3.5, 0, 7);
    if (health === 'ok') context.fill(); else context.stroke();
  }
}

const fills = (names, palette) => names.map(([name]) => palette[name]);
const memoryShares = (rank, most) => rank.memory.map(part => part / most);
const total = list => list.reduce((sum, part) => sum + part, 0);

function text(context, value, x, y, color, align = 'left') {
  context.fillStyle = color;
  context.textAlign = align;
  context.fillText(value, x, y);
}

const layersOf = range => (!range ? '' : range[0] === range[1] ? `layer ${range[0]}` : `layers ${range[0]}–${range[1]}`);

function drawLarge(context, cell, palette, scale) {
  const { rank, x, y, width } = cell;
  const [left, right, inner] = [x + 14, x + width - 14, width - 28];
  drawState(context, left + 4, y + 20, rank.health, palette);
  font(context, palette, 14, 600);
  text(context, `Rank ${rank.rank}`, left + 15, y + 20, palette.text);
  const speed = rank.tokensPerSecond == null ? '–' : number(rank.tokensPerSecond);
  font(context, palette, 11);
  text(context, 'tok/s', right, y + 20, palette.muted, 'right');
  font(context, palette, 14, 600);
  text(context, speed, right - 33, y + 20, palette.text, 'right');
  font(context, palette, 11.5);
  text(context, fitted(context, scale.where(rank), inner - 80), left, y + 42, palette.muted);
  text(context, rank.health === 'ok' ? (rank.stepAge < 1 ? 'working' : `last step ${ago(rank.stepAge)}`) : rank.health === 'loading' ? 'loading' : `${rank.health}, ${age(rank.stepAge)}`, right, y + 42,
    rank.health === 'ok' || rank.health === 'loading' ? palette.muted : stateColor(rank.health, palette), 'right');
  stackedBar(context, left, y + 60, inner, 10, rank.shares, fills(kShares, palette), palette.surface);
  text(context, `compute ${percent(rank.shares[0])}`, left, y + 83, palette.muted);
  text(context, `communication ${percent(rank.shares[1])}`, right, y + 83, palette.muted, 'right');
  stackedBar(context, left, y + 101, inner, 10, memoryShares(rank, scale.memory), fills(kMemory, palette), palette.surface);
  text(context, `memory ${bytes(total(rank.memory))}`, left, y + 124, palette.muted);
  text(context, rank.slots_per_layer ? `${counted(rank.slots_per_layer, 'slot')} a layer` : layersOf(rank.layers), right, y + 124, palette.muted, 'right');
}

function drawMedium(context, cell, palette, scale) {
  const { rank, x, y, width } = cell;
  const [left, right, inner] = [x + 10, x + width - 10, width - 20];
  drawState(context, left + 3, y + 16, rank.health, palette);
  font(context, palette, 12, 600);
  text(context, String(rank.rank), left + 12, y + 16, palette.text);
  font(context, palette, 11);
  text(context, rank.tokensPerSecond == null ? '–' : `${number(rank.tokensPerSecond)} tok/s`, right, y + 16, palette.muted, 'right');
  text(context, fitted(context, scale.where(rank), inner), left, y + 34, palette.muted);
  stackedBar(context, left, y + 48, inner, 8, rank.shares, fills(kShares, palette), palette.surface);
  stackedBar(context, left, y + 64, inner, 8, memoryShares(rank, scale.memory), fills(kMemory, palette), palette.surface);
}

function drawSmall(context, cell, palette, scale) {
  const { rank, x, y, width } = cell;
  font(context, palette, 10, 600);
  text(context, String(rank.rank), x + 6, y + 10, palette.text);
  if (rank.health !== 'ok') drawState(context, x + width - 10, y + 10, rank.health, palette);
  stackedBar(context, x + 6, y + 18, width - 12, 6, rank.shares, fills(kShares, palette), palette.surface);
  stackedBar(context, x + 6, y + 28, width - 12, 6, memoryShares(rank, scale.memory), fills(kMemory, palette), palette.surface);
}

const kDraw = { large: drawLarge, medium: drawMedium, small: drawSmall };

const under = (plan, x, y) => plan.cells.find(cell => x >= cell.x && x < cell.x + cell.width && y >= cell.y && y < cell.y + cell.height);

export function describe(rank, sizes) {
  return `Rank ${rank.rank}, ${coordinates(rank, sizes) || 'alone'}: ${rank.health}, ${number(rank.tokensPerSecond)} tok/s, compute ${percent(rank.shares[0])}, ` +
    `communication ${percent(rank.shares[1])}, stage wait ${percent(rank.shares[2])}, idle ${percent(rank.shares[3])}, memory ${bytes(total(rank.memory))}`;
}

const kSteps = { ArrowRight: 1, ArrowLeft: -1 };

// selected: the rank's number or null; onSelect(number or null).
export function RankGrid({ selected, onSelect }) {
  const [hover, setHover] = useState(null);
  const list = ranks.value;
  const sizes = server.value?.sizes ?? {};
  const scale = {
    memory: Math.max(1, ...list.map(rank => total(rank.memory))),
    where: rank => coordinates(rank, sizes, true) || rank.host || '',
  };
  const draw = (context, plan, palette) => {
    font(context, palette, 11.5, 600);
    for (const title of plan.titles) text(context, title.text, title.x, title.y, palette.muted);
    for (const cell of plan.cells) {
      drawCellFrame(context, cell, palette, cell.rank.rank === selected || cell.rank.rank === hover);
      kDraw[cell.kind](context, cell, palette, scale);
    }
  };
  const onPoint = (plan, x, y, kind) => {
    const rank = kind === 'leave' ? null : under(plan, x, y)?.rank.rank ?? null;
    if (kind === 'click') onSelect(rank === selected ? null : rank);
    else if (rank !== hover) setHover(rank);
  };
  const onArrow = (plan, pressed) => {
    if (pressed === 'Escape') return onSelect(null), true;
    const step = kSteps[pressed] ?? { ArrowDown: plan.across, ArrowUp: -plan.across }[pressed];
    if (step === undefined) return false;
    const at = list.findIndex(rank => rank.rank === selected);
    onSelect(list[at < 0 ? 0 : Math.max(0, Math.min(list.length - 1, at + step))].rank);
    return true;
  };
  const shown = list.find(rank => rank.rank === hover);
  return html`<div class="grid-view">
    <${Canvas} testId="rank-grid" layout=${width => gridLayout(list, sizes, width)} draw=${draw} onPoint=${onPoint} onArrow=${onArrow}
      label=${`${counted(list.length, 'rank')}; arrow keys choose one. ${list.filter(rank => rank.health !== 'ok').map(rank => `Rank ${rank.rank} ${rank.health}`).join(', ')}`} />
    <p class="hint" aria-hidden="true">${shown ? describe(shown, sizes) : list.length > 8 ? 'Hover over a rank, or click it, for its figures.' : ''}</p>
  </div>`;
}

export const Keys = ({ names }) => html`<ul class="legend">${names.map(([name, label]) => html`<li><i class="key" style=${{ color: `var(--${name})` }}></i>${label}</li>`)}</ul>`;
