// SPDX-License-Identifier: Apache-2.0
// What each cell of the expert heat map holds, where it lies, and what is said about it. Pure functions.
import { counted, number, percent, ratio } from './format.js';

const kLeft = 62;
const kRight = 64;
export const kTop = 24;
const sum = list => list.reduce((total, value) => total + value, 0);

// What each column of a layer holds: [{tokens, expert?, copies?, rank}].
export function rowCells(layer, view, perRank) {
  if (view === 'ranks') return layer.rank_tokens.map((tokens, rank) => ({ tokens, rank }));
  const copies = new Map();
  layer.slots.forEach((expert, slot) => {
    if (expert < 0) return;
    if (!copies.has(expert)) copies.set(expert, []);
    copies.get(expert).push(slot);
  });
  if (view === 'experts') return layer.expert_tokens.map((tokens, expert) => ({ tokens, expert, copies: copies.get(expert) ?? [] }));
  return layer.slots.map((expert, slot) => {
    const rank = Math.floor(slot / perRank);
    if (expert < 0) return { empty: true, tokens: 0, slot, rank };
    const tokens = layer.slot_tokens?.[slot] ?? layer.expert_tokens[expert] / copies.get(expert).length;
    return { tokens, expert, slot, rank, copies: copies.get(expert) };
  });
}

// data: {experts, ep_size, slots}; replica: one of its `replicas`. Everything that drawing and pointing need, for a width.
export function mapLayout(data, replica, view, perLayer, width) {
  const perRank = Math.max(1, Math.round(data.slots / data.ep_size));
  const rows = replica.layers.map(layer => ({ layer, cells: rowCells(layer, view, perRank) }));
  const across = Math.max(1, ...rows.map(row => row.cells.length));
  const groups = view === 'slots' ? data.ep_size : 1;
  const gap = groups > 1 ? Math.max(2, Math.min(10, 240 / groups)) : 0;
  const cell = Math.max(1.5, (width - kLeft - kRight - gap * (groups - 1)) / across);
  const rowHeight = rows.length > 40 ? 13 : rows.length > 20 ? 20 : 28;
  const most = Math.max(1e-9, ...rows.flatMap(row => row.cells.map(one => one.tokens)));
  for (const row of rows) {
    row.most = perLayer ? Math.max(1e-9, ...row.cells.map(one => one.tokens)) : most;
    row.total = sum(row.cells.map(one => one.tokens));
  }
  const x = column => kLeft + column * cell + (groups > 1 ? Math.floor(column / perRank) * gap : 0);
  return { rows, across, groups, gap, perRank, cell, rowHeight, x, view, width, most, height: kTop + rows.length * rowHeight + 2, columnAt: at => columnAt(at, { x, cell, across }) };
}

function columnAt(at, { x, cell, across }) {
  for (let column = 0; column < across; ++column) {
    if (at < x(column)) return null;
    if (at < x(column) + cell) return column;
  }
  return null;
}

// One line about a cell. Shares are of the layer's tokens, and of the expert's.
export function cellText(plan, focus) {
  const row = focus && plan.rows[focus.row];
  const one = row?.cells[focus.column];
  if (!one) return '';
  const of = row.total > 0 ? percent(one.tokens / row.total) : '0 %';
  const layer = `layer ${row.layer.layer}`;
  if (plan.view === 'ranks') return `${layer} · EP rank ${one.rank} · ${counted(one.tokens, 'token', number)}, ${of} of the layer, ${ratio(one.tokens * row.cells.length / (row.total || 1))} the mean`;
  if (one.empty) return `${layer} · slot ${one.slot} on EP rank ${one.rank} · empty`;
  const copies = one.copies.map(slot => `slot ${slot} (rank ${Math.floor(slot / plan.perRank)})`).join(', ');
  if (plan.view === 'experts') return `${layer} · expert ${one.expert} · ${counted(one.tokens, 'token', number)}, ${of} of the layer · ${one.copies.length > 1 ? `${one.copies.length} copies: ${copies}` : copies}`;
  const whole = row.layer.expert_tokens[one.expert];
  const shared = one.copies.length > 1 ? ` · ${one.copies.length} copies: ${copies}; this one takes ${percent(whole > 0 ? one.tokens / whole : 1 / one.copies.length)}` : ' · only copy';
  return `${layer} · slot ${one.slot} on EP rank ${one.rank} · expert ${one.expert} · ${counted(one.tokens, 'token', number)}, ${of} of the layer${shared}`;
}
