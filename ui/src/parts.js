// SPDX-License-Identifier: Apache-2.0
// Small pieces that several views share.
import { useEffect, useRef } from 'preact/hooks';
import { colors, theme } from './theme.js';
import { html } from './html.js';
import { alone } from './series.js';

// Calls ask() now and then every so many milliseconds, as long as the component is shown.
export function usePolling(ask, milliseconds) {
  useEffect(() => {
    ask();
    const timer = setInterval(ask, milliseconds);
    return () => clearInterval(timer);
  }, []);
}

export const Card = ({ title, note, actions, children, className = '', id }) => html`<section class=${`card ${className}`} aria-label=${title} data-testid=${id}>
  <header><h2>${title}</h2>${note && html`<span class="note">${note}</span>`}${actions}</header>
  ${children}
</section>`;

export const Empty = ({ title, children }) => html`<div class="empty" role="status"><p class="empty-title">${title}</p>${children && html`<p>${children}</p>`}</div>`;

// One of several: a group of buttons that act like radio buttons.
export const Choice = ({ label, options, value, onChange }) => html`<div class="choice" role="radiogroup" aria-label=${label}>
  ${options.map(([name, text]) => html`<button type="button" role="radio" aria-checked=${name === value} onClick=${() => onChange(name)}>${text}</button>`)}
</div>`;

// A line of the last minute under a figure. values: one column as columns() of series.js gives it; a value by itself is a dot.
export function Sparkline({ values, color = 'accent' }) {
  const canvas = useRef();
  const palette = theme.value;
  useEffect(() => {
    const element = canvas.current;
    const scale = devicePixelRatio || 1;
    const [width, height] = [element.clientWidth, element.clientHeight];
    element.width = width * scale;
    element.height = height * scale;
    const context = element.getContext('2d');
    context.scale(scale, scale);
    const known = values.filter(value => typeof value === 'number');
    if (known.length < 2) return;
    const most = Math.max(...known) * 1.1 || 1;
    context.strokeStyle = context.fillStyle = colors()[color];
    context.lineWidth = 1.5;
    context.lineJoin = 'round';
    context.beginPath();
    let open = false;
    const place = index => [(index / (values.length - 1)) * width, height - 2 - (values[index] / most) * (height - 4)];
    values.forEach((value, index) => {
      if (typeof value === 'number') context[open ? 'lineTo' : 'moveTo'](...place(index));
      if (value !== undefined) open = typeof value === 'number';
    });
    context.stroke();
    for (const index of alone(values)) {
      context.beginPath();
      context.arc(...place(index), 1.5, 0, 7);
      context.fill();
    }
  }, [values, palette]);
  return html`<canvas ref=${canvas} class="spark" aria-hidden="true"></canvas>`;
}

// A bar of parts with what each is: [{color, label, value, text}].
export function PartsBar({ parts }) {
  const whole = parts.reduce((sum, part) => sum + part.value, 0) || 1;
  return html`<div class="parts">
    <div class="parts-bar" aria-hidden="true">${parts.map(part => html`<i style=${{ width: `${(part.value / whole) * 100}%`, background: `var(--${part.color})` }}></i>`)}</div>
    <dl>${parts.map(part => html`<div><dt><i class="key" style=${{ color: `var(--${part.color})` }}></i>${part.label}</dt><dd>${part.text}</dd></div>`)}</dl>
  </div>`;
}
