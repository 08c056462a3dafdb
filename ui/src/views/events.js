// SPDX-License-Identifier: Apache-2.0
// What happened, newest first.
import { signal } from '@preact/signals';
import { clock, dateAndTime } from '../format.js';
import { html } from '../html.js';
import { Card, Choice, Empty } from '../parts.js';
import { events } from '../store.js';

const kNames = { ready: 'ready', loading: 'loading', rebalance: 'rebalance', drain: 'drain', rank_failed: 'rank failed', restart: 'restart', refused: 'refused', error: 'error' };
const kTones = { ready: 'good', rebalance: 'info', drain: 'warn', refused: 'warn', rank_failed: 'bad', restart: 'warn', error: 'bad' };
const filter = signal('all');

export function EventList({ most, kind = 'all', dates = false }) {
  const list = events.value.filter(event => kind === 'all' || kTones[event.kind] === kind).slice(-(most ?? 500)).reverse();
  if (!list.length) return html`<${Empty} title=${kind === 'all' ? 'Nothing happened yet' : 'None of this kind'} />`;
  return html`<ol class="events">${list.map(event => html`<li key=${`${event.t}${event.kind}${event.text}`}>
    <time title=${dateAndTime(event.t)}>${dates ? dateAndTime(event.t) : clock(event.t)}</time>
    <span class=${`tag ${kTones[event.kind] ?? ''}`}>${kNames[event.kind] ?? event.kind}</span>
    <span class="event-text">${event.text}</span>
  </li>`)}</ol>`;
}

export const Events = () => html`<${Card} title="Events" note=${`${events.value.length} kept`}
  actions=${html`<${Choice} label="Kind" options=${[['all', 'All'], ['info', 'Rebalances'], ['warn', 'Warnings'], ['bad', 'Failures']]} value=${filter.value} onChange=${value => { filter.value = value; }} />`}>
  <${EventList} kind=${filter.value} dates=${true} />
<//>`;
