// SPDX-License-Identifier: Apache-2.0
// Which series each chart of the page holds.
import { computed } from '@preact/signals';
import { Chart } from './chart.js';
import { bytes, milliseconds, number, percent, ratio } from './format.js';
import { html } from './html.js';
import { events } from './store.js';

const kMarkColors = { rebalance: 'c3', restart: 'bad', rank_failed: 'bad', drain: 'warn', error: 'bad' };
const marksOf = kinds => computed(() => events.value.filter(event => kinds.includes(event.kind)).map(event => ({ t: event.t, text: event.text, color: kMarkColors[event.kind] })));
const rebalances = marksOf(['rebalance']);
const breaks = marksOf(['restart', 'rank_failed', 'drain', 'error']);

const quantiles = name => [
  { label: 'p50', color: 'c1', get: point => point[name]?.p50, fill: true },
  { label: 'p90', color: 'c2', get: point => point[name]?.p90 },
  { label: 'p99', color: 'c4', get: point => point[name]?.p99, width: 1 },
];

// The most, the middle and the least over all ranks, of one of the figures that a point has for each. A point does not change, so that
// hundreds of ranks are sorted once for each second and not at every redraw.
function spread(figure) {
  const known = new WeakMap();
  const of = point => {
    if (!known.has(point)) {
      const list = (point.ranks ?? []).map(rank => rank[figure]).sort((a, b) => a - b);
      known.set(point, { most: list.at(-1), median: list[Math.floor(list.length / 2)], least: list[0] });
    }
    return known.get(point);
  };
  return [
    { label: 'most', color: 'c2', get: point => of(point).most },
    { label: 'median', color: 'c1', get: point => of(point).median, fill: true },
    { label: 'least', color: 'c3', get: point => of(point).least },
  ];
}

const latency = (title, name, note) => ({ title, note, series: quantiles(name), format: milliseconds });

const kCharts = {
  throughput: {
    title: 'Throughput', note: 'tokens per second', format: number, marks: breaks, empty: '',
    series: [
      { label: 'generated', color: 'c1', get: point => point.generated_tokens_per_second, fill: true },
      { label: 'prompt', color: 'c2', get: point => point.prompt_tokens_per_second },
    ],
  },
  requestRate: {
    title: 'Finished requests', note: 'per second', format: number, empty: '',
    series: [
      { label: 'finished', color: 'c1', get: point => point.requests_per_second, fill: true },
      { label: 'refused', color: 'c4', get: point => point.queue_refusals },
    ],
  },
  ttft: latency('Time to first token', 'ttft_ms', 'from arrival'),
  itl: latency('Inter-token latency', 'itl_ms', 'between tokens of a stream'),
  e2e: latency('End-to-end latency', 'e2e_ms', 'whole requests'),
  imbalance: {
    title: 'Expert imbalance', note: 'busiest EP rank over the mean', format: ratio, marks: rebalances, floor: 1, empty: 'No expert-parallel steps in this window.',
    series: [
      { label: 'worst layer', color: 'c4', get: point => point.imbalance?.worst },
      { label: 'mean of layers', color: 'c1', get: point => point.imbalance?.mean, fill: true },
    ],
  },
  moved: {
    title: 'Expert copies moved', note: 'bytes per second', format: bytes, binary: true, marks: rebalances, empty: '',
    series: [{ label: 'moved', color: 'c3', get: point => point.moved_bytes, fill: true }],
  },
  stall: {
    title: 'Stall by moves', note: 'longest wait of a step', format: milliseconds, marks: rebalances, empty: '',
    series: [{ label: 'stall', color: 'c5', get: point => point.stall_ms, fill: true }],
  },
  rankSpeed: {
    title: 'Tokens per second of a rank', note: 'how far ranks lie apart', format: number, empty: '', series: spread(4),
  },
  rankWait: {
    title: 'Time in communication', note: 'share of a rank’s time, waiting for slower ranks included', format: percent, ceiling: 1, empty: '', series: spread(1),
  },
  kv: {
    title: 'KV cache', note: 'share of all pages', format: percent, ceiling: 1, empty: '',
    series: [
      { label: 'used', color: 'c1', get: point => point.kv_used, fill: true },
      { label: 'used and cached', color: 'c3', get: point => point.kv_used + point.kv_cached },
      { label: 'prompt tokens reused', color: 'c2', get: point => point.kv_hit, dash: [5, 4] },
    ],
  },
  queue: {
    title: 'Requests', note: 'now', format: number, empty: '',
    series: [
      { label: 'running', color: 'c1', get: point => point.running, fill: true },
      { label: 'waiting', color: 'c2', get: point => point.waiting },
    ],
  },
  oldest: {
    title: 'Oldest waiting request', note: 'age', format: value => milliseconds(value * 1000), empty: '',
    series: [{ label: 'oldest', color: 'c2', get: point => point.oldest_waiting_seconds, fill: true }],
  },
  preemptions: {
    title: 'Preemptions', note: 'per second', format: number, empty: '',
    series: [{ label: 'preemptions', color: 'c4', get: point => point.preemptions, fill: true }],
  },
};

export const TimeChart = ({ name, height }) => html`<${Chart} ...${kCharts[name]} height=${height ?? 190} />`;
