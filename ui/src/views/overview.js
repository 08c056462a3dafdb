// SPDX-License-Identifier: Apache-2.0
// The first view: the figures that matter, where they come from, and what happened last.
import { useComputed } from '@preact/signals';
import { TimeChart } from '../charts.js';
import { age, ago, DASH, milliseconds, number, percent, ratio } from '../format.js';
import { html } from '../html.js';
import { Card, Sparkline } from '../parts.js';
import { Keys, kMemory, kShares, RankGrid } from '../rank_grid.js';
import { columns, newestWith } from '../series.js';
import { points, ranks, server } from '../store.js';
import { EventList } from './events.js';

const kTileSeconds = 60;  // what the line under a figure shows

// Shares of the newest second that has each, without those that none has: most seconds see no prompt that could have been reused.
const sayable = parts => parts.map(([name, get]) => [name, newestWith(points.value, get, kTileSeconds), get])
  .filter(([, newest]) => newest).map(([name, newest, get]) => `${name} ${percent(get(newest.point))}`).join(', ');

const kTiles = [
  { title: 'Generated', unit: 'tok/s', get: point => point.generated_tokens_per_second, show: number, sub: point => `prompt ${number(point.prompt_tokens_per_second)} tok/s` },
  { title: 'Requests', unit: 'running', get: point => point.running, show: number,
    sub: point => (point.waiting ? `${number(point.waiting)} waiting, oldest ${age(point.oldest_waiting_seconds)}` : 'none waiting') },
  { title: 'First token', unit: 'p50', get: point => point.ttft_ms?.p50, show: milliseconds, sub: point => `p99 ${milliseconds(point.ttft_ms?.p99)}` },
  { title: 'Between tokens', unit: 'p50', get: point => point.itl_ms?.p50, show: milliseconds, sub: point => `p99 ${milliseconds(point.itl_ms?.p99)}` },
  { title: 'KV cache', unit: 'used', get: point => point.kv_used, show: percent, sub: () => sayable([['cached', point => point.kv_cached], ['reused', point => point.kv_hit]]) },
  { title: 'Imbalance', unit: 'worst layer', get: point => point.imbalance?.worst, show: ratio, sub: point => `mean ${ratio(point.imbalance.mean)}`, none: 'no experts spread' },
];

// The figure of the newest second that has it: in most seconds of a steady load no request gets its first token.
function Tile({ tile }) {
  const values = useComputed(() => columns(points.value, [tile], kTileSeconds)[1]);
  const newest = newestWith(points.value, tile.get, kTileSeconds);
  const then = newest?.age >= 2 ? `, ${ago(newest.age)}` : '';
  const none = !points.value.length ? 'no data yet' : tile.none ?? 'none in the last minute';
  return html`<div class="tile card">
    <h2>${tile.title}</h2>
    <p class="figure"><b>${newest ? tile.show(tile.get(newest.point)) : DASH}</b><span>${tile.unit}</span></p>
    <p class="sub">${newest ? tile.sub(newest.point) + then : none}</p>
    <${Sparkline} values=${values.value} />
  </div>`;
}

export function Overview({ go }) {
  const list = ranks.value;
  return html`<div class="tiles" data-testid="tiles">${kTiles.map(tile => html`<${Tile} key=${tile.title} tile=${tile} />`)}</div>
    <div class="columns">
      <${TimeChart} name="throughput" /><${TimeChart} name="ttft" />
    </div>
    <${Card} title=${list.length === 1 ? 'Rank' : 'Ranks'} note=${server.value?.layout ?? ''} actions=${html`<${Keys} names=${[...kShares, ...kMemory]} />`}>
      <${RankGrid} selected=${null} onSelect=${rank => rank !== null && go('ranks', rank)} />
    <//>
    <div class="columns">
      <${TimeChart} name="imbalance" />
      <${Card} title="Latest events" actions=${html`<a href="#/events">all events</a>`}><${EventList} most=${6} /><//>
    </div>`;
}
