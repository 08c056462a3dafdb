// SPDX-License-Identifier: Apache-2.0
// Brings the server's data in: the stream /v1/events, and the larger objects by asking for them while a view shows them. It reconnects by
// itself, waiting longer each time up to 10 seconds, and gives a stream up that has said nothing for 15.
import { signal } from '@preact/signals';
import { readFrames } from './event_stream.js';
import { applyFrame, config, connection, experts, paused, requestList, server } from './store.js';

const kSilenceMs = 15000;
const kLongestWaitMs = 10000;
const kKeyName = 'shoal-key';

export const key = signal(sessionStorage.getItem(kKeyName) ?? '');

export function setKey(value) {
  key.value = value.trim();
  if (key.value) sessionStorage.setItem(kKeyName, key.value);
  else sessionStorage.removeItem(kKeyName);
  restart();
}

export function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key.value) headers.authorization = `Bearer ${key.value}`;
  return fetch(path, { cache: 'no-store', ...options, headers });
}

// The message of an error body of this server, or what the status says.
export async function errorOf(response) {
  try {
    const error = (await response.json()).error;
    return { message: error.message ?? response.statusText, hint: error.hint ?? '', code: error.code ?? '', progress: error.progress };
  } catch {
    return { message: `${response.status} ${response.statusText}`.trim(), hint: '', code: '' };
  }
}

let waiting = [];  // frames that came while the page is paused
let abort = null;
let wake = () => {};

export function setPaused(value) {
  paused.value = value;
  if (value) return;
  for (const frame of waiting) applyFrame(frame);
  waiting = [];
}

function onFrame(text) {
  let frame;
  try {
    frame = JSON.parse(text);
  } catch {
    return;
  }
  connection.value = { state: 'live' };
  if (paused.value) waiting.push(frame);
  else applyFrame(frame);
}

// One connection, until it ends. Returns whether data came, and throws nothing.
async function follow() {
  abort = new AbortController();
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), kSilenceMs);
  };
  let came = false;
  try {
    alive();
    const response = await request('/v1/events', { signal: abort.signal, headers: { accept: 'text/event-stream' } });
    if (response.status === 401 || response.status === 403) return { denied: true };
    if (!response.ok) {
      const error = await errorOf(response);
      return { came, why: error.message, progress: error.progress };
    }
    await readFrames(response, text => {
      came = true;
      onFrame(text);
    }, alive);
    return { came, why: 'the server closed the stream' };
  } catch {
    return { came, why: 'the server does not answer' };
  } finally {
    clearTimeout(timer);
  }
}

const sleep = ms => new Promise(done => {
  const timer = setTimeout(done, ms);
  wake = () => {
    clearTimeout(timer);
    done();
  };
});

let session = 0;  // 0: stopped; a loop whose number is not this one any more ends
let sessions = 0;

async function run(mine) {
  let wait = 500;
  for (;;) {
    const end = await follow();
    if (mine !== session) return;
    if (end.denied) {
      connection.value = { state: 'denied' };
      await new Promise(done => { wake = done; });
      if (mine !== session) return;
      continue;
    }
    wait = end.came ? 500 : Math.min(kLongestWaitMs, wait * 2);
    connection.value = end.progress !== undefined
      ? { state: 'connecting', progress: end.progress }
      : { state: 'retrying', why: end.why, until: Date.now() + wait };
    await sleep(end.progress !== undefined ? 1000 : wait);
    if (mine !== session) return;
  }
}

export function start() {
  if (session) return;
  session = ++sessions;
  connection.value = { state: 'connecting' };
  run(session);
}

export function stop() {
  session = 0;
  abort?.abort();
  wake();
}

// A new try at once: with another key, or because somebody asked for it.
export function restart() {
  if (!session) return start();
  abort?.abort();
  wake();
}

async function poll(path, into, onDenied) {
  if (paused.value || document.hidden || connection.value.state !== 'live') return;
  try {
    const response = await request(path);
    if (response.ok) into.value = await response.json();
    else if (onDenied && (response.status === 401 || response.status === 403 || response.status === 404)) onDenied(response.status);
  } catch {
    // The stream notices a lost server, and says so.
  }
}

export const pollServer = () => poll('/v1/ranks', server);
export const pollExperts = () => poll('/v1/experts', experts);
export const pollConfig = () => poll('/v1/config', config);
export const pollRequests = () => poll('/v1/requests', requestList, status => {
  requestList.value = { denied: true, status };
});
