// SPDX-License-Identifier: Apache-2.0
// Throughput and latency over time, and the cache and the queue behind them.
import { TimeChart } from '../charts.js';
import { counted, exact, percent } from '../format.js';
import { html } from '../html.js';
import { Card, PartsBar, usePolling } from '../parts.js';
import { pollServer } from '../feed.js';
import { server } from '../store.js';

function Cache({ kv }) {
  const free = Math.max(0, kv.total_pages - kv.used_pages - kv.cached_pages);
  const share = value => `${counted(value, 'page')}, ${percent(kv.total_pages ? value / kv.total_pages : 0)}`;
  const prompt = kv.reused_tokens + kv.computed_tokens;
  const facts = [
    ['Tokens that still fit', exact((free + kv.cached_pages) * kv.tokens_per_page)], ['Tokens a page', exact(kv.tokens_per_page)],
    ['Prompt tokens reused', prompt ? `${exact(kv.reused_tokens)}, ${percent(kv.reused_tokens / prompt)}` : 'none yet'], ['Preemptions', exact(kv.preemptions)],
  ];
  return html`<${Card} title="KV pages" note=${`${exact(kv.total_pages)} over all ranks`} id="kv-card">
    <${PartsBar} parts=${[
      { color: 'kv', label: 'used by requests', value: kv.used_pages, text: share(kv.used_pages) },
      { color: 'c3', label: 'kept for prefixes to come', value: kv.cached_pages, text: share(kv.cached_pages) },
      { color: 'idle', label: 'free', value: free, text: share(free) },
    ]} />
    <dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
  <//>`;
}

export function Performance() {
  usePolling(pollServer, 2000);
  const kv = server.value?.kv;
  return html`<div class="columns">
    <${TimeChart} name="throughput" /><${TimeChart} name="e2e" />
    <${TimeChart} name="ttft" /><${TimeChart} name="itl" />
    <${TimeChart} name="kv" />${kv ? html`<${Cache} kv=${kv} />` : html`<${Card} title="KV pages" />`}
    <${TimeChart} name="queue" /><${TimeChart} name="oldest" />
    <${TimeChart} name="requestRate" height=${150} /><${TimeChart} name="preemptions" height=${150} />
  </div>`;
}
