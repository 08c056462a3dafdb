// SPDX-License-Identifier: Apache-2.0
// Series over time, by uPlot. All charts share the window and the cursor: a hovered second is the same second everywhere.
import { effect, signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { html } from './html.js';
import { clock, DASH } from './format.js';
import { alone, columns, kJoinSeconds, newestWith, niceCeiling } from './series.js';
import { points } from './store.js';
import { colors, theme } from './theme.js';

export const kWindows = [[60, '1 min'], [300, '5 min'], [600, '10 min'], [3600, '1 h']];
export const windowSeconds = signal(300);

const cursorSync = uPlot.sync('time');
function fillOf(color) {
  return (u) => {
    const gradient = u.ctx.createLinearGradient(0, u.bbox.top, 0, u.bbox.top + u.bbox.height);
    gradient.addColorStop(0, `${color}3a`);
    gradient.addColorStop(1, `${color}05`);
    return gradient;
  };
}

function drawMarks(u, marks, palette) {
  const { ctx, bbox } = u;
  ctx.save();
  for (const mark of marks) {
    const x = Math.round(u.valToPos(mark.t, 'x', true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    const color = palette[mark.color ?? 'faint'];
    ctx.strokeStyle = ctx.fillStyle = color;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x + 0.5, bbox.top);
    ctx.lineTo(x + 0.5, bbox.top + bbox.height);
    ctx.stroke();
    const size = 4 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x - size, bbox.top - size);
    ctx.lineTo(x + size, bbox.top - size);
    ctx.lineTo(x, bbox.top + size / 2);
    ctx.fill();
  }
  ctx.restore();
}

function newestValue(get) {
  const newest = newestWith(points.value, get, kJoinSeconds);
  return newest && get(newest.point);
}

const kPowersOfTwo = Array.from({ length: 50 }, (_, power) => 2 ** power);

function options({ series, format, floor = 0, ceiling, height, binary }, palette, hooks) {
  const axis = { stroke: palette.muted, font: `11px ${palette.font}`, grid: { stroke: palette.border, width: 1 }, ticks: { show: false } };
  return {
    width: 300, height, legend: { show: false }, padding: [10, 26, 0, 0],
    cursor: { sync: { key: cursorSync.key }, drag: { x: false, y: false }, points: { size: 6 }, y: false },
    scales: {
      x: { range: (u, low, high) => [high - windowSeconds.value, high] },
      y: { range: (u, low, high) => [floor, ceiling ?? Math.max(niceCeiling((high ?? 0) * 1.08, binary), floor + 0.1)] },
    },
    axes: [
      { ...axis, size: 26, space: 90, grid: { show: false }, values: (u, splits) => splits.map(clock) },
      { ...axis, size: 56, space: 34, ...(binary && { incrs: kPowersOfTwo }), values: (u, splits) => splits.map(value => format(value)) },
    ],
    series: [{}, ...series.map(one => ({
      label: one.label, stroke: palette[one.color], width: one.width ?? 1.75, dash: one.dash, spanGaps: false,
      points: { show: true, size: 4, fill: palette[one.color], filter: (u, column) => alone(u.data[column]) },
      fill: one.fill ? fillOf(palette[one.color]) : undefined,
    }))],
    hooks,
  };
}

// props: title, series [{label, color, get(point), dash?, fill?}], format(value), marks (signal of [{t, color, text}]), floor, ceiling, height, empty
export function Chart(props) {
  const { title, series, format, marks, height = 190, empty = 'No requests in this window.', note } = props;
  const place = useRef();
  const readout = useRef(signal({ time: null, values: [], text: '' })).current;
  const blank = useRef(signal(false)).current;
  const palette = theme.value;

  useEffect(() => {
    const tints = colors();
    const show = u => {
      const index = u.cursor.idx;
      const time = index == null ? null : u.data[0][index];
      const near = time == null ? null : (marks?.value ?? []).find(mark => Math.abs(mark.t - time) <= windowSeconds.value / 100);
      const valueOf = (one, column) => (index == null ? newestValue(one.get) : u.data[column + 1][index]);
      readout.value = { time, values: series.map(valueOf), text: near?.text ?? '' };
    };
    const plot = new uPlot(options({ ...props, height }, tints, {
      setCursor: [show], setData: [show], draw: [u => drawMarks(u, marks?.value ?? [], tints)],
    }), [[], ...series.map(() => [])], place.current);
    const observer = new ResizeObserver(entries => plot.setSize({ width: Math.max(120, Math.floor(entries[0].contentRect.width)), height }));
    observer.observe(place.current);
    const stop = effect(() => {
      const data = columns(points.value, series, windowSeconds.value);
      marks?.value;
      blank.value = data.slice(1).every(column => column.every(value => value === null));
      plot.setData(data);
    });
    return () => {
      stop();
      observer.disconnect();
      plot.destroy();
    };
  }, [palette]);

  return html`<section class="card chart" aria-label=${title}>
    <header><h2>${title}</h2><span class="note">${readout.value.text || (readout.value.time ? clock(readout.value.time) : note ?? '')}</span></header>
    <ul class="legend">
      ${series.map((one, index) => html`<li key=${one.label}><i class=${`key ${one.dash ? 'dashed' : ''}`} style=${{ color: `var(--${one.color})` }}></i>${one.label}
        <b>${readout.value.values[index] == null ? DASH : format(readout.value.values[index])}</b></li>`)}
    </ul>
    <div class="plot" ref=${place} style=${{ height: `${height}px` }} role="img"
      aria-label=${`${title}: ${series.map((one, index) => `${one.label} ${readout.value.values[index] == null ? 'none' : format(readout.value.values[index])}`).join(', ')}`}></div>
    ${blank.value && html`<p class="over-plot">${empty}</p>`}
  </section>`;
}
