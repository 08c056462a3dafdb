// SPDX-License-Identifier: Apache-2.0
// The queue, and the requests in it if the key may see them.
import { signal } from '@preact/signals';
import { TimeChart } from '../charts.js';
import { age, exact, percent } from '../format.js';
import { html } from '../html.js';
import { Card, Empty, usePolling } from '../parts.js';
import { errorOf, pollRequests, request } from '../feed.js';
import { connection, latest, requestList } from '../store.js';

const kMost = 200;
const kOrder = { decode: 0, prefill: 1, queued: 2 };
const trouble = signal('');

async function cancel(id) {
  trouble.value = '';
  try {
    const response = await request(`/v1/requests/${encodeURIComponent(id)}`, { method: 'DELETE' });
    if (!response.ok) trouble.value = `${id}: ${(await errorOf(response)).message}`;
  } catch {
    trouble.value = `${id}: the server does not answer`;
  }
  pollRequests();
}

const Row = ({ one, pinned }) => html`<tr>
  <td class="mono">${one.id}</td><td><span class=${`tag ${one.state === 'queued' ? 'warn' : one.state === 'prefill' ? 'info' : 'good'}`}>${one.state}</span></td>
  <td class="number">${age(one.age_seconds)}</td><td class="number">${exact(one.prompt_tokens)}</td>
  <td class="number">${exact(one.generated_tokens)} / ${exact(one.max_tokens)}</td>
  <td><div class="progress" aria-label=${percent(one.generated_tokens / one.max_tokens)}><i style=${{ width: `${Math.min(100, (one.generated_tokens / (one.max_tokens || 1)) * 100)}%` }}></i></div></td>
  ${pinned && html`<td class="number">${one.attention_dp_rank ?? '–'}</td>`}
  <td>${connection.value.state === 'live' && html`<button type="button" class="quiet" aria-label=${`Cancel ${one.id}`} onClick=${() => cancel(one.id)}>cancel</button>`}</td>
</tr>`;

function List() {
  const answer = requestList.value;
  if (!answer) return html`<${Empty} title="Asking for the list" />`;
  if (answer.denied) return html`<${Empty} title="The list needs the admin key">Give it under “Key” above to see and cancel single requests.<//>`;
  const list = [...answer.requests].sort((a, b) => kOrder[a.state] - kOrder[b.state] || b.age_seconds - a.age_seconds);
  if (!list.length) return html`<${Empty} title="No requests at the moment" />`;
  const pinned = list.some(one => one.attention_dp_rank != null);
  return html`<div class="scroll"><table>
    <thead><tr><th scope="col">Id</th><th scope="col">State</th><th scope="col" class="number">Age</th><th scope="col" class="number">Prompt</th><th scope="col" class="number">Generated</th>
      <th scope="col">Progress</th>${pinned && html`<th scope="col" class="number">Asked for rank</th>`}<th scope="col"><span class="unseen">Action</span></th></tr></thead>
    <tbody>${list.slice(0, kMost).map(one => html`<${Row} key=${one.id} one=${one} pinned=${pinned} />`)}</tbody>
  </table></div>${list.length > kMost && html`<p class="hint">and ${exact(list.length - kMost)} more</p>`}`;
}

export function Requests() {
  usePolling(pollRequests, 1000);
  const point = latest.value;
  return html`<div class="columns"><${TimeChart} name="queue" /><${TimeChart} name="oldest" /></div>
    <${Card} title="Requests now" note=${point ? `${exact(point.running)} running, ${exact(point.waiting)} waiting` : ''} id="requests-card">
      ${trouble.value && html`<p class="error" role="alert">${trouble.value}</p>`}
      <${List} />
    <//>`;
}
