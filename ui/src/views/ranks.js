// SPDX-License-Identifier: Apache-2.0
// Ranks as a map or as a table, one of them in detail, and what they send to one another.
import { signal, useComputed } from '@preact/signals';
import { TimeChart } from '../charts.js';
import { ago, bytes, exact, number, percent } from '../format.js';
import { html } from '../html.js';
import { Card, Choice, Empty, PartsBar, Sparkline, usePolling } from '../parts.js';
import { Keys, kMemory, kShares, RankGrid } from '../rank_grid.js';
import { coordinates } from '../rank_layout.js';
import { points, ranks, server } from '../store.js';
import { pollServer } from '../feed.js';
import { Traffic } from '../traffic.js';

export const selectedRank = signal(null);
const form = signal('map');

const partsOf = (names, values, text) => names.map(([color, label], index) => ({ color, label, value: values[index], text: text(values[index]) }));
const total = list => list.reduce((sum, part) => sum + part, 0);
const rangeOf = range => (!Array.isArray(range) ? '–' : range[0] === range[1] ? String(range[0]) : `${range[0]} to ${range[1]}`);

function Detail({ rank }) {
  const history = useComputed(() => points.value.slice(-120).map(point => point.ranks?.[selectedRank.value]?.[4] ?? null));
  const facts = [
    ['Host', rank.host || '–'], ['Layers', rangeOf(rank.layers)], ['Attention heads', `${exact(rank.heads)}, ${exact(rank.kv_heads)} KV`],
    ['Slots a layer', rank.slots_per_layer ? exact(rank.slots_per_layer) : 'none'], ['Steps', exact(rank.steps)], ['Tokens', exact(rank.tokens)],
    ['Bytes sent', bytes(rank.bytes_sent)], ['Last step', ago(rank.stepAge)],
  ];
  return html`<${Card} title=${`Rank ${rank.rank}`} note=${coordinates(rank, server.value?.sizes)} id="rank-detail"
      actions=${html`<span class=${`state ${rank.health}`}>${rank.health}</span><button type="button" class="quiet" aria-label="Close the details" onClick=${() => { selectedRank.value = null; }}>×</button>`}>
    <div class="detail">
      <div><h3>Time of the last second</h3><${PartsBar} parts=${partsOf(kShares, rank.shares, percent)} /></div>
      <div><h3>Memory: ${bytes(total(rank.memory))}</h3><${PartsBar} parts=${partsOf(kMemory, rank.memory, bytes)} /></div>
      <div><h3>Tokens per second: ${number(rank.tokensPerSecond)}</h3><${Sparkline} values=${history.value} /></div>
      <dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    </div>
  <//>`;
}

const kColumns = [
  ['Rank', rank => rank.rank], ['Place', rank => coordinates(rank, server.value?.sizes) || '–'], ['State', rank => html`<span class=${`state ${rank.health}`}>${rank.health}</span>`],
  ['Tokens/s', rank => number(rank.tokensPerSecond)], ['Compute', rank => percent(rank.shares[0])], ['Communication', rank => percent(rank.shares[1])],
  ['Stage wait', rank => percent(rank.shares[2])], ['Idle', rank => percent(rank.shares[3])], ['Last step', rank => ago(rank.stepAge)],
  ['Weights', rank => bytes(rank.memory[0])], ['Experts', rank => bytes(rank.memory[1])], ['KV cache', rank => bytes(rank.memory[2])], ['Activations', rank => bytes(rank.memory[3])],
];
const kTextColumns = 3;

const Table = ({ list }) => html`<div class="scroll"><table>
  <thead><tr>${kColumns.map(([name], index) => html`<th scope="col" class=${index >= kTextColumns ? 'number' : ''}>${name}</th>`)}</tr></thead>
  <tbody>${list.map(rank => html`<tr key=${rank.rank} class=${rank.rank === selectedRank.value ? 'selected' : ''} onClick=${() => { selectedRank.value = rank.rank; }}>
    ${kColumns.map(([, show], index) => html`<td class=${index >= kTextColumns ? 'number' : ''}>${show(rank)}</td>`)}</tr>`)}</tbody>
</table></div>`;

export function Ranks() {
  usePolling(pollServer, 2000);
  const list = ranks.value;
  if (!list.length) return html`<${Empty} title="No ranks yet">They appear when the model is being loaded.<//>`;
  const chosen = list.find(rank => rank.rank === selectedRank.value);
  const traffic = server.value?.traffic;
  return html`<${Card} title="Ranks" note=${`${list.length} in all`} className="ranks"
      actions=${html`<${Keys} names=${[...kShares, ...kMemory]} /><${Choice} label="Form" options=${[['map', 'Map'], ['table', 'Table']]} value=${form.value} onChange=${value => { form.value = value; }} />`}>
      ${form.value === 'map' ? html`<${RankGrid} selected=${selectedRank.value} onSelect=${rank => { selectedRank.value = rank; }} />` : html`<${Table} list=${list} />`}
    <//>
    ${chosen && html`<${Detail} rank=${chosen} />`}
    <div class="columns"><${Card} title="Traffic" note="bytes sent from rank to rank since the start" id="traffic-card">
      ${traffic?.length > 1 ? html`<${Traffic} matrix=${traffic} />` : html`<${Empty} title=${list.length > 1 ? 'Not counted' : 'One rank'}>${list.length > 1 ? 'This server does not count bytes by pair of ranks.' : 'There is nobody to send to.'}<//>`}
    <//>
    <div class="stack"><${TimeChart} name="rankSpeed" height=${140} /><${TimeChart} name="rankWait" height=${140} /></div></div>`;
}
