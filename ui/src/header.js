// SPDX-License-Identifier: Apache-2.0
// What is true on every view: which model, in which layout, how it is, and what holds it back.
import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { kWindows, windowSeconds } from './chart.js';
import { dateAndTime, span } from './format.js';
import { key, restart, setKey, setPaused } from './feed.js';
import { html } from './html.js';
import { Choice } from './parts.js';
import { backToLive, saveSnapshot, showSnapshot } from './snapshot.js';
import { connection, health, latest, paused, server } from './store.js';
import { nextTheme, theme } from './theme.js';

export const notice = signal('');  // what went wrong with something the user did
const keyOpen = signal(false);

const Mark = () => html`<svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
  <path d="M3 9c4-5 10-5 14 0l4-3v6l-4-3c-4 5-10 5-14 0z" /><path d="M11 16c4-5 10-5 14 0l4-3v6l-4-3c-4 5-10 5-14 0z" /><path d="M3 23c4-5 10-5 14 0l4-3v6l-4-3c-4 5-10 5-14 0z" />
</svg>`;

const percentOf = progress => (typeof progress === 'number' ? progress : typeof progress?.fraction === 'number' ? progress.fraction : typeof progress?.percent === 'number' ? progress.percent / 100 : null);

function State() {
  const { kind, word, remark, progress } = health.value;
  const share = percentOf(progress);
  return html`<div class=${`pill ${kind}`} role="status" data-testid="state">
    <i aria-hidden="true"></i><b>${word}${share === null ? '' : ` ${Math.round(share * 100)} %`}</b>${remark && html`<span>${remark}</span>`}
    ${share !== null && html`<span class="loading-bar" role="progressbar" aria-valuenow=${Math.round(share * 100)} aria-valuemin="0" aria-valuemax="100" aria-label="Loading"><i style=${{ width: `${share * 100}%` }}></i></span>`}
  </div>`;
}

// Uptime counts on between the server's reports.
function Uptime() {
  const [seconds, setSeconds] = useState(null);
  const base = useRef({});
  const told = server.value?.uptime_seconds;
  if (base.current.told !== told) base.current = { told, at: Date.now() };
  const live = connection.value.state === 'live';
  useEffect(() => {
    const tick = () => setSeconds(base.current.told === undefined ? null : base.current.told + (live ? (Date.now() - base.current.at) / 1000 : 0));
    tick();
    const timer = setInterval(tick, 1000);
    return () => clearInterval(timer);
  }, [live, told === undefined]);
  return seconds === null ? null : html`<span class="uptime">up <b>${span(seconds)}</b></span>`;
}

function KeyForm() {
  const field = useRef();
  useEffect(() => field.current?.focus(), []);
  const give = event => {
    event.preventDefault();
    setKey(field.current.value);
    keyOpen.value = false;
  };
  return html`<form class="key-form" onSubmit=${give}>
    <label for="key">API key</label><input id="key" ref=${field} type="password" autocomplete="off" placeholder="sk-…" value=${key.value} />
    <button type="submit" class="primary">Use it</button>
    <small>Kept in this tab only. An admin key also shows single requests and settings.</small>
  </form>`;
}

async function openFile(file) {
  try {
    showSnapshot(await file.text());
    notice.value = '';
  } catch (error) {
    notice.value = error.message;
  }
}

// A file dropped anywhere on the page.
export function useDrop() {
  useEffect(() => {
    const over = event => event.preventDefault();
    const drop = event => {
      event.preventDefault();
      if (event.dataTransfer?.files[0]) openFile(event.dataTransfer.files[0]);
    };
    addEventListener('dragover', over);
    addEventListener('drop', drop);
    return () => {
      removeEventListener('dragover', over);
      removeEventListener('drop', drop);
    };
  }, []);
}

function Actions() {
  const picker = useRef();
  const live = connection.value.state !== 'snapshot';
  return html`<div class="actions">
    <${Choice} label="Window" options=${kWindows} value=${windowSeconds.value} onChange=${value => { windowSeconds.value = value; }} />
    ${live && html`<button type="button" aria-pressed=${paused.value} onClick=${() => setPaused(!paused.value)}>${paused.value ? 'Resume' : 'Pause'}</button>`}
    <button type="button" disabled=${!server.value} title="All that this page shows, as a file for a bug report" onClick=${saveSnapshot}>Save snapshot</button>
    <button type="button" onClick=${() => picker.current.click()}>Open</button>
    <input ref=${picker} type="file" hidden accept=".json,application/json" aria-label="Open a snapshot" onChange=${event => { if (event.target.files[0]) openFile(event.target.files[0]); event.target.value = ''; }} />
    <button type="button" aria-expanded=${keyOpen.value} onClick=${() => { keyOpen.value = !keyOpen.value; }}>Key</button>
    <button type="button" class="icon" aria-label=${theme.value === 'dark' ? 'Use the light colours' : 'Use the dark colours'} title="Light or dark" onClick=${nextTheme}>${theme.value === 'dark' ? '☀' : '☾'}</button>
  </div>`;
}

function Retrying() {
  const [left, setLeft] = useState(0);
  const { until, why } = connection.value;
  useEffect(() => {
    const tick = () => setLeft(Math.max(0, Math.ceil((until - Date.now()) / 1000)));
    tick();
    const timer = setInterval(tick, 250);
    return () => clearInterval(timer);
  }, [until]);
  return html`<p class="banner bad" role="alert"><b>No connection:</b> ${why}. Next try in ${left} s. <button type="button" onClick=${restart}>Try now</button></p>`;
}

function Banner() {
  const { state, savedAt } = connection.value;
  return html`${state === 'retrying' && html`<${Retrying} />`}
    ${state === 'denied' && html`<div class="banner warn" role="alert"><b>${key.value ? 'This key is not accepted.' : 'This server wants an API key.'}</b><${KeyForm} /></div>`}
    ${keyOpen.value && state !== 'denied' && html`<div class="banner"><${KeyForm} /></div>`}
    ${state === 'snapshot' && html`<p class="banner info" role="status"><b>A snapshot</b> saved ${dateAndTime(savedAt)}; nothing here is live. ${location.protocol !== 'file:' && html`<button type="button" onClick=${backToLive}>Back to live</button>`}</p>`}
    ${notice.value && html`<p class="banner bad" role="alert">${notice.value} <button type="button" onClick=${() => { notice.value = ''; }}>Close</button></p>`}`;
}

export function Header({ views, view }) {
  const about = server.value;
  const advice = about?.advice;
  const ready = latest.value && health.value.kind === 'good';
  return html`<header class="top">
    <div class="title-line">
      <a class="brand" href="#/overview" aria-label="Shoal, overview"><${Mark} /><b>shoal</b></a>
      <div class="what"><h1>${about?.model ?? '…'}</h1>${about?.layout && html`<code title="Layout">${about.layout}</code>`}<${State} /><${Uptime} /></div>
      <${Actions} />
    </div>
    <nav aria-label="Views">${views.map(([name, title]) => html`<a href=${`#/${name}`} aria-current=${name === view ? 'page' : undefined}>${title}</a>`)}</nav>
  </header>
  <${Banner} />
  <p class=${`advice ${advice ? '' : 'calm'}`} data-testid="advice">${advice || (ready ? 'Nothing holds the server back at the moment.' : about ? ' ' : 'Waiting for the server’s first report.')}</p>`;
}
