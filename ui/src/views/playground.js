// SPDX-License-Identifier: Apache-2.0
// A chat with the served model, streamed the way any client would.
import { batch, signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { readFrames } from '../event_stream.js';
import { exact, milliseconds, number } from '../format.js';
import { errorOf, request } from '../feed.js';
import { html } from '../html.js';
import { Card } from '../parts.js';
import { connection, server } from '../store.js';

const messages = signal([]);  // {role, content, error?, timing?, finish?}
const draft = signal('');
const settings = signal({ system: '', temperature: 0.7, top_p: 1, max_tokens: 256, seed: '' });
const running = signal(null);  // the AbortController of the answer that is coming

const kStarters = ['What is a river?', 'Tell me about the sea.', 'Define faith in one sentence.'];

const setLast = change => { messages.value = [...messages.value.slice(0, -1), { ...messages.value[messages.value.length - 1], ...change }]; };

export function bodyOf({ system, temperature, top_p, max_tokens, seed }, history, model) {
  const lines = history.filter(message => !message.error && message.content).map(({ role, content }) => ({ role, content }));
  return {
    model, stream: true, stream_options: { include_usage: true }, temperature: Number(temperature), top_p: Number(top_p), max_tokens: Number(max_tokens),
    ...(seed === '' ? {} : { seed: Number(seed) }),
    messages: system.trim() ? [{ role: 'system', content: system.trim() }, ...lines] : lines,
  };
}

const kLeastMs = 20;  // a busy browser may read a whole answer at once: no speed can be told from that

// After the first token, which came so many milliseconds ago.
const tokensPerSecond = (tokens, ms) => (tokens > 1 && ms >= kLeastMs ? ((tokens - 1) * 1000) / ms : null);

// Reads the answer's chunks into the last message, with the times that a user feels.
async function readAnswer(response, begun) {
  let content = '';
  let first = null;
  let pieces = 0;
  const show = (more = {}) => {
    const tokens = more.tokens ?? pieces;
    const timing = first === null ? { ttft: null, tokens, rate: null } : { ttft: first - begun, tokens, rate: tokensPerSecond(tokens, performance.now() - first) };
    setLast({ content, timing, ...more.change });
  };
  await readFrames(response, text => {
    if (text === '[DONE]') return;
    const chunk = JSON.parse(text);
    if (chunk.error) throw Object.assign(new Error(chunk.error.message), { hint: chunk.error.hint });
    const choice = chunk.choices?.[0];
    const piece = choice?.delta?.content ?? '';
    if (piece) {
      first ??= performance.now();
      ++pieces;
      content += piece;
    }
    show({ tokens: chunk.usage?.completion_tokens, change: choice?.finish_reason ? { finish: choice.finish_reason } : {} });
  });
}

async function answer() {
  const begun = performance.now();
  const control = new AbortController();
  const body = bodyOf(settings.value, messages.value, server.value?.model);
  batch(() => {
    running.value = control;
    messages.value = [...messages.value, { role: 'assistant', content: '' }];
  });
  try {
    const response = await request('/v1/chat/completions', {
      method: 'POST', signal: control.signal, headers: { 'content-type': 'application/json', accept: 'text/event-stream' }, body: JSON.stringify(body),
    });
    if (!response.ok) {
      const error = await errorOf(response);
      setLast({ error: error.message, hint: error.hint });
    } else {
      await readAnswer(response, begun);
    }
  } catch (error) {
    setLast(control.signal.aborted ? { finish: 'stopped' } : { error: error.message === 'Failed to fetch' ? 'The server does not answer.' : error.message, hint: error.hint });
  }
  running.value = null;
}

function send(text) {
  const content = text.trim();
  if (!content || running.value) return;
  batch(() => {
    messages.value = [...messages.value, { role: 'user', content }];
    draft.value = '';
  });
  answer();
}

function again() {
  const last = messages.value.findLastIndex(message => message.role === 'user');
  if (last < 0 || running.value) return;
  messages.value = messages.value.slice(0, last + 1);
  answer();
}

const curl = () => `curl ${location.origin}/v1/chat/completions -H 'Content-Type: application/json' -d '${JSON.stringify(bodyOf(settings.value, messages.value.filter(message => message.role !== 'assistant'), server.value?.model)).replaceAll("'", "'\\''")}'`;

function Timing({ message }) {
  const { timing, finish } = message;
  if (!timing) return finish ? html`<p class="timing">${finish}</p>` : null;
  return html`<p class="timing"><span>first token <b>${milliseconds(timing.ttft)}</b></span><span><b>${exact(timing.tokens)}</b> token${timing.tokens === 1 ? '' : 's'}</span><span><b>${number(timing.rate)}</b> tok/s</span>${finish && html`<span>${finish}</span>`}</p>`;
}

const Message = ({ message, live }) => html`<li class=${`message ${message.role}`}>
  <div class="bubble">
    ${message.error ? html`<p class="error" role="alert">${message.error}${message.hint && html`<br /><small>${message.hint}</small>`}</p>` : message.content || (live ? html`<span class="waiting" aria-label="waiting for the first token"><i></i><i></i><i></i></span>` : html`<em>no text</em>`)}
    ${message.error && message.content ? html`<p>${message.content}</p>` : ''}
  </div>
  ${message.role === 'assistant' && html`<${Timing} message=${message} />`}
</li>`;

const kNumbers = [['temperature', 'Temperature', 0, 2, 0.1], ['top_p', 'Top p', 0.01, 1, 0.01], ['max_tokens', 'Max tokens', 1, 1e6, 1], ['seed', 'Seed', 0, 2 ** 53, 1]];

function Settings() {
  const set = (name, value) => { settings.value = { ...settings.value, [name]: value }; };
  return html`<${Card} title="Settings" className="settings">
    <label>System prompt<textarea rows="3" value=${settings.value.system} onInput=${event => set('system', event.target.value)} placeholder="none"></textarea></label>
    <div class="numbers">${kNumbers.map(([name, label, min, max, step]) => html`<label>${label}<input type="number" name=${name} min=${min} max=${max} step=${step} placeholder=${name === 'seed' ? 'random' : ''}
      value=${settings.value[name]} onInput=${event => set(name, event.target.value)} /></label>`)}</div>
    <button type="button" disabled=${!messages.value.length} onClick=${() => navigator.clipboard?.writeText(curl())}>Copy as curl</button>
  <//>`;
}

function Composer() {
  const press = event => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send(draft.value);
    }
  };
  return html`<form class="composer" onSubmit=${event => { event.preventDefault(); send(draft.value); }}>
    <label class="unseen" for="draft">Message</label>
    <textarea id="draft" rows="2" placeholder="Write a message; Enter sends, Shift+Enter starts a line" value=${draft.value} onInput=${event => { draft.value = event.target.value; }} onKeyDown=${press}></textarea>
    ${running.value ? html`<button type="button" class="stop" onClick=${() => running.value?.abort()}>Stop</button>` : html`<button type="submit" class="primary" disabled=${!draft.value.trim()}>Send</button>`}
  </form>`;
}

export function Playground() {
  const end = useRef();
  useEffect(() => {
    const list = end.current;
    if (list && list.scrollHeight - list.scrollTop - list.clientHeight < 160) list.scrollTop = list.scrollHeight;
  }, [messages.value]);
  const offline = connection.value.state === 'snapshot';
  const list = messages.value;
  return html`<div class="playground">
    <${Card} title="Chat" note=${server.value?.model ?? ''} className="chat"
      actions=${html`<button type="button" disabled=${!list.length || running.value} onClick=${again}>Again</button><button type="button" disabled=${!list.length || running.value} onClick=${() => { messages.value = []; }}>Clear</button>`}>
      <ol class="messages" ref=${end} aria-live="polite">
        ${list.length ? list.map((message, index) => html`<${Message} message=${message} live=${running.value && index === list.length - 1} />`) : html`<li class="empty"><p class="empty-title">Say something to the model</p>
          <p class="starters">${kStarters.map(text => html`<button type="button" onClick=${() => send(text)}>${text}</button>`)}</p></li>`}
      </ol>
      ${offline ? html`<p class="hint">A snapshot cannot answer.</p>` : html`<${Composer} />`}
    <//>
    <${Settings} />
  </div>`;
}
