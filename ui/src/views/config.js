// SPDX-License-Identifier: Apache-2.0
// Every setting with its value and where that came from.
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { html } from '../html.js';
import { Card, Choice, Empty } from '../parts.js';
import { pollConfig } from '../feed.js';
import { config, connection, server } from '../store.js';

const search = signal('');
const only = signal('all');

const textOf = value => (value === null || value === undefined ? 'null' : typeof value === 'object' ? JSON.stringify(value) : String(value));

// Each setting as {name, value, source}.
export function rows(answer) {
  if (!answer) return [];
  const table = answer.settings ?? answer.config ?? answer.values ?? answer;
  const list = Array.isArray(table) ? table
    : Object.entries(table).map(([name, entry]) => (entry && typeof entry === 'object' && 'value' in entry ? { name, ...entry } : { name, value: entry }));
  return list.map(entry => ({ name: entry.name ?? entry.key, value: textOf(entry.value), source: textOf(entry.source ?? ''), help: entry.help ?? '' }));
}

const tone = source => (source.startsWith('default') ? '' : source.startsWith('file') ? 'info' : source.startsWith('env') ? 'warn' : 'good');

export function Config() {
  useEffect(() => {
    pollConfig();
  }, [connection.value.state]);
  const all = rows(config.value);
  if (!all.length) return html`<${Empty} title="No settings known">This server does not tell its configuration, or the key may not see it.<//>`;
  const wanted = search.value.trim().toLowerCase();
  const list = all.filter(row => (only.value === 'all' || !row.source.startsWith('default')) && (!wanted || `${row.name} ${row.value}`.toLowerCase().includes(wanted)));
  const about = server.value ? [server.value.model, server.value.version, server.value.backend, server.value.dtype].filter(Boolean).join(' · ') : '';
  return html`<${Card} title="Settings" note=${about}
    actions=${html`<label class="search"><span class="unseen">Find a setting</span><input type="search" placeholder="Find a setting" value=${search.value} onInput=${event => { search.value = event.target.value; }} /></label>
      <${Choice} label="Which" options=${[['all', 'All'], ['changed', 'Not default']]} value=${only.value} onChange=${value => { only.value = value; }} />`}>
    ${list.length ? html`<div class="scroll"><table class="config">
      <thead><tr><th scope="col">Setting</th><th scope="col">Value</th><th scope="col">From</th></tr></thead>
      <tbody>${list.map(row => html`<tr key=${row.name} title=${row.help}><td class="mono">${row.name}</td><td class="mono value">${row.value}</td><td><span class=${`tag ${tone(row.source)}`}>${row.source || 'default'}</span></td></tr>`)}</tbody>
    </table></div>` : html`<${Empty} title="No setting matches" />`}
  <//>`;
}
