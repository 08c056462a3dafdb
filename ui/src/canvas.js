// SPDX-License-Identifier: Apache-2.0
// A <canvas> as a component: sharp on every screen, as wide as its place, redrawn at most once a frame, and usable by keyboard.
import { html } from './html.js';
import { useEffect, useRef, useState } from 'preact/hooks';
import { colors, theme } from './theme.js';

function useWidth(ref) {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(entries => setWidth(Math.floor(entries[0].contentRect.width)));
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return width;
}

// layout(width) -> anything with a `height`; draw(context, layout, colors); onPoint(layout, x, y, 'move' | 'click' | 'leave');
// onArrow(layout, key) -> true if the key meant something.
export function Canvas({ layout, draw, label, onPoint, onArrow, testId }) {
  const box = useRef();
  const canvas = useRef();
  const width = useWidth(box);
  const palette = theme.value;
  const plan = width > 0 ? layout(width) : { height: 0 };

  useEffect(() => {
    if (!width) return undefined;
    const frame = requestAnimationFrame(() => {
      const scale = devicePixelRatio || 1;
      const element = canvas.current;
      if (!element) return;  // the view was left in the meantime
      const [w, h] = [Math.round(width * scale), Math.round(plan.height * scale)];
      if (element.width !== w || element.height !== h) [element.width, element.height] = [w, h];
      const context = element.getContext('2d');
      context.setTransform(scale, 0, 0, scale, 0, 0);
      context.clearRect(0, 0, width, plan.height);
      context.textBaseline = 'middle';
      draw(context, plan, colors());
    });
    return () => cancelAnimationFrame(frame);
  });

  // Before the first layout there is nothing to point at.
  const point = kind => event => width > 0 && onPoint?.(plan, event.offsetX, event.offsetY, kind);
  const arrow = event => {
    if (width > 0 && onArrow?.(plan, event.key)) event.preventDefault();
  };
  return html`<div class="canvas-box" ref=${box} data-theme-drawn=${palette}>
    <canvas ref=${canvas} role="img" aria-label=${label} data-testid=${testId} tabindex=${onArrow ? 0 : -1} style=${{ width: `${width}px`, height: `${plan.height}px` }}
      onMouseMove=${point('move')} onMouseLeave=${point('leave')} onClick=${point('click')} onKeyDown=${arrow}></canvas>
  </div>`;
}

export function font(context, palette, size, weight = 400) {
  context.font = `${weight} ${size}px ${palette.font}`;
}

export function box(context, x, y, width, height, radius) {
  context.beginPath();
  context.roundRect(x, y, Math.max(0, width), Math.max(0, height), radius);
}

// Text cut with an ellipsis where it would not fit.
export function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let cut = text;
  while (cut && context.measureText(`${cut}…`).width > width) cut = cut.slice(0, -1);
  return cut ? `${cut}…` : '';
}

// A horizontal bar of shares with these colours, rounded as a whole.
export function stackedBar(context, x, y, width, height, shares, fills, back) {
  context.save();
  box(context, x, y, width, height, Math.min(3, height / 2));
  context.clip();
  context.fillStyle = back;
  context.fillRect(x, y, width, height);
  let left = x;
  shares.forEach((share, index) => {
    const part = Math.max(0, Math.min(1, share || 0)) * width;
    context.fillStyle = fills[index];
    context.fillRect(left, y, part, height);
    left += part;
  });
  context.restore();
}
