// SPDX-License-Identifier: Apache-2.0
// Where the tokens go: the heat map by layer, and how even it has been.
import { signal } from '@preact/signals';
import { TimeChart } from '../charts.js';
import { ExpertMap } from '../expert_map.js';
import { bytes, counted, exact, milliseconds, number, ratio } from '../format.js';
import { html } from '../html.js';
import { Card, Choice, Empty, usePolling } from '../parts.js';
import { pollExperts } from '../feed.js';
import { experts } from '../store.js';

const view = signal('slots');
const scale = signal('layer');
const chosen = signal(0);

const Ramp = () => html`<span class="ramp-key" aria-hidden="true">fewer<i class="ramp"></i>more tokens</span>`;

function Facts({ data, replica }) {
  const facts = [
    ['Experts', exact(data.experts)], ['Slots', `${exact(data.slots)} on ${counted(data.ep_size, 'EP rank')}`], ['Worst layer', ratio(replica.max_over_mean?.worst)],
    ['Mean of layers', ratio(replica.max_over_mean?.mean)], ['Plans made', exact(replica.plans)], ['Layers changed', exact(replica.moves?.layers)],
    ['Copies moved', `${exact(replica.moves?.copies)}, ${bytes(replica.moves?.bytes)}`], ['Longest wait', milliseconds(replica.longest_wait_ms)],
    ['Planning', `${number(replica.planning_seconds)} s`], ['Balancing', replica.online ? 'while serving' : 'off'],
  ];
  return html`<dl class="facts wide">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

export function Experts() {
  usePolling(pollExperts, 2000);
  const data = experts.value;
  if (!data) return html`<${Empty} title="No expert counts yet" />`;
  if (!data.experts || !data.replicas?.length) return html`<${Empty} title="This model has no experts">Every token passes the same weights, so there is nothing to balance.<//>`;
  const replica = data.replicas[Math.min(chosen.value, data.replicas.length - 1)];
  const actions = html`<${Ramp} />
    ${data.replicas.length > 1 && html`<${Choice} label="Replica" options=${data.replicas.map((one, index) => [index, `dp ${one.dp}`])} value=${chosen.value} onChange=${value => { chosen.value = value; }} />`}
    <${Choice} label="Colour scale" options=${[['layer', 'By layer'], ['all', 'All layers']]} value=${scale.value} onChange=${value => { scale.value = value; }} />
    <${Choice} label="Columns" options=${[['slots', 'Slots'], ['experts', 'Experts'], ['ranks', 'Ranks']]} value=${view.value} onChange=${value => { view.value = value; }} />`;
  return html`<${Card} title="Expert load" note="tokens in the recent window" actions=${actions}>
      <${ExpertMap} key=${view.value + chosen.value} data=${data} replica=${replica} view=${view.value} perLayer=${scale.value === 'layer'} />
      <${Facts} data=${data} replica=${replica} />
    <//>
    <${TimeChart} name="imbalance" height=${200} />
    <div class="columns"><${TimeChart} name="moved" height=${150} /><${TimeChart} name="stall" height=${150} /></div>`;
}
