// SPDX-License-Identifier: Apache-2.0
// Where the cell of each rank lies in the grid. Pure functions.

const kGap = 8;
const kCells = [
  { most: 8, width: 232, height: 148, kind: 'large' },
  { most: 40, width: 132, height: 84, kind: 'medium' },
  { most: Infinity, width: 58, height: 40, kind: 'small' },
];

// The coordinates that say something: those along which the world is cut.
// `inBlock`: without those that the title of its block tells.
export function coordinates(rank, sizes = {}, inBlock = false) {
  const parts = [];
  if (sizes.dp > 1 && !inBlock) parts.push(`dp ${rank.dp}`);
  if (sizes.pp > 1 && !inBlock) parts.push(`stage ${rank.pp}`);
  if (sizes.cp > 1) parts.push(`cp ${rank.cp}`);
  if (sizes.tp > 1) parts.push(`tp ${rank.tp}`);
  if (sizes.attention_dp > 1) parts.push(`adp ${rank.attn_dp}`);
  if (sizes.moe_tp > 1) parts.push(`moe-tp ${rank.moe_tp}`);
  if (sizes.moe_ep > 1) parts.push(`ep ${rank.moe_ep}`);
  return parts.join(' · ');
}

function blocks(list, sizes) {
  const byPlace = new Map();
  for (const rank of list) {
    const name = [sizes.dp > 1 && `replica ${rank.dp}`, sizes.pp > 1 && `stage ${rank.pp}`].filter(Boolean).join(' · ');
    if (!byPlace.has(name)) byPlace.set(name, []);
    byPlace.get(name).push(rank);
  }
  return [...byPlace].map(([name, members]) => ({ name, members }));
}

// As many cells beside each other as fit, or up to half of that if the lines are then all full.
function columnsFor(members, fit) {
  for (let count = Math.min(members, fit); count > fit / 2; --count) if (members % count === 0) return count;
  return Math.min(members, fit);
}

// Where each cell lies: {height, cells: [{rank, x, y, width, height, kind}], titles: [{text, x, y}]}.
export function gridLayout(list, sizes, width) {
  const cell = kCells.find(size => list.length <= size.most);
  const groups = blocks(list, sizes);
  const named = groups.length > 1;
  const title = named ? 20 : 0;
  const fit = Math.max(1, Math.floor((width + kGap) / (cell.width + kGap)));
  const largest = Math.max(...groups.map(group => group.members.length));
  const across = columnsFor(largest, fit);
  const side = Math.max(1, Math.floor(fit / across));  // blocks beside each other
  const spare = Math.floor((width - (side - 1) * kGap + kGap) / (across * side)) - kGap;
  const cellWidth = Math.max(cell.width, Math.min(spare, cell.width * 1.9));
  const plan = { cells: [], titles: [], height: 0, named };
  let y = 0;
  for (let first = 0; first < groups.length; first += side) {
    const line = groups.slice(first, first + side);
    const rows = Math.ceil(Math.max(...line.map(group => group.members.length)) / across);
    line.forEach((group, place) => {
      const x = place * across * (cellWidth + kGap) + place * (side > 1 ? kGap : 0);
      if (named) plan.titles.push({ text: group.name, x, y: y + 9 });
      group.members.forEach((rank, index) => plan.cells.push({
        rank, kind: cell.kind, width: cellWidth, height: cell.height,
        x: x + (index % across) * (cellWidth + kGap), y: y + title + Math.floor(index / across) * (cell.height + kGap),
      }));
    });
    y += title + rows * (cell.height + kGap) + (named ? 8 : 0);
  }
  plan.height = Math.max(0, y - kGap);
  plan.across = across;
  return plan;
}
