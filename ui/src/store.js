// SPDX-License-Identifier: Apache-2.0
// What the page knows of the server, as signals: whatever shows one redraws when it changes. Only feed.js and snapshot.js write here.
import { batch, computed, signal } from '@preact/signals';

export const kMaxPoints = 3600;
const kMaxEvents = 500;
export const kStepAgeLimit = 5;  // seconds without a step, while requests run, after which a rank is shown as late

export const server = signal(null);       // GET /v1/ranks
export const experts = signal(null);      // GET /v1/experts
export const config = signal(null);       // GET /v1/config
export const requestList = signal(null);  // GET /v1/requests, or {denied: true}
export const points = signal([]);         // one a second, oldest first
export const events = signal([]);         // oldest first

// How the page gets its data: connecting, live, retrying (with `until` and `why`), denied (a key is needed), snapshot (with `savedAt`).
export const connection = signal({ state: 'connecting' });
export const paused = signal(false);

export const latest = computed(() => points.value[points.value.length - 1] ?? null);

export function resetData() {
  batch(() => {
    server.value = experts.value = config.value = requestList.value = null;
    points.value = [];
    events.value = [];
  });
}

function addPoint(point) {
  const list = points.value;
  if (list.length && point.t <= list[list.length - 1].t) return;
  points.value = list.length >= kMaxPoints ? [...list.slice(list.length - kMaxPoints + 1), point] : [...list, point];
}

const sameEvent = (a, b) => a.t === b.t && a.kind === b.kind && a.text === b.text;

function addEvent(event) {
  if (events.value.slice(-20).some(known => sameEvent(known, event))) return;
  events.value = [...events.value, event].slice(-kMaxEvents);
}

// The server's history joined with what the page already had: a reconnection must neither lose nor double anything.
function addHistory(frame) {
  const first = frame.points?.[0]?.t ?? Infinity;
  points.value = [...points.value.filter(point => point.t < first), ...(frame.points ?? [])].slice(-kMaxPoints);
  const oldest = frame.events?.[0]?.t ?? Infinity;
  events.value = [...events.value.filter(event => event.t < oldest), ...(frame.events ?? [])].slice(-kMaxEvents);
  if (frame.static) server.value = frame.static;
}

// One frame of /v1/events. A kind that this page does not know is left alone.
export function applyFrame(frame) {
  batch(() => {
    if (frame.type === 'history') addHistory(frame);
    else if (frame.type === 'point') addPoint(frame.point);
    else if (frame.type === 'event') addEvent(frame.event);
    else if (frame.type === 'static') server.value = frame.static;
  });
}

// Each rank with its newest shares: what the grid, the table and the details show.
export const ranks = computed(() => {
  const now = latest.value;
  return (server.value?.ranks ?? []).map(rank => {
    const live = now?.ranks?.[rank.rank];
    const total = rank.compute_seconds + rank.communication_seconds + rank.stage_seconds + rank.idle_seconds;
    const share = total > 0
      ? [rank.compute_seconds, rank.communication_seconds, rank.stage_seconds, rank.idle_seconds].map(part => part / total)
      : [0, 0, 0, 0];
    const stepAge = live ? live[5] : rank.last_step_age_seconds;
    const late = rank.state === 'ok' && (now?.running ?? 0) > 0 && stepAge > kStepAgeLimit;
    return {
      ...rank,
      health: late ? 'stalled' : rank.state,
      shares: live ? live.slice(0, 4) : share,
      tokensPerSecond: live ? live[4] : null,
      stepAge,
      memory: [rank.weight_bytes - rank.expert_bytes, rank.expert_bytes, rank.kv_bytes, rank.activation_bytes].map(part => Math.max(0, part || 0)),
    };
  });
});

const listOf = numbers => (numbers.length > 4 ? `${numbers.slice(0, 4).join(', ')} and ${numbers.length - 4} more` : numbers.join(', '));

function degraded(kind) {
  const numbers = ranks.value.filter(rank => rank.health === kind).map(rank => rank.rank);
  return numbers.length ? `rank${numbers.length > 1 ? 's' : ''} ${listOf(numbers)} ${kind}` : '';
}

// One word and one remark about the server: {kind, word, remark, progress?}.
export const health = computed(() => {
  const link = connection.value;
  if (link.state === 'denied') return { kind: 'bad', word: 'key needed', remark: '' };
  if (link.state === 'retrying') return { kind: 'bad', word: 'no connection', remark: link.why ?? '' };
  if (link.state === 'connecting') return { kind: 'busy', word: link.progress === undefined ? 'connecting' : 'loading', remark: '', progress: link.progress };
  const state = (link.state === 'live' && latest.value?.state) || server.value?.state;
  const progress = latest.value?.progress ?? server.value?.progress;
  if (state === 'loading') return { kind: 'busy', word: 'loading', remark: '', progress };
  if (state === 'draining') return { kind: 'warn', word: 'draining', remark: 'no new requests' };
  const trouble = [degraded('failed'), degraded('stalled')].filter(Boolean).join('; ');
  if (state === 'failed') return { kind: 'bad', word: 'failed', remark: trouble };
  if (!state) return { kind: 'busy', word: 'waiting', remark: 'no report yet' };
  return trouble ? { kind: 'warn', word: 'degraded', remark: trouble } : { kind: 'good', word: state, remark: '' };
});
