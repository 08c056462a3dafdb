// SPDX-License-Identifier: Apache-2.0
// Light or dark, and the colours that canvases need: they are written once, in style.css, and read from there.
// The categorical colours are Okabe and Ito's, which people with any colour vision tell apart; the ramps rise evenly in lightness.
import { computed, signal } from '@preact/signals';

const kName = 'shoal-theme';
const system = matchMedia('(prefers-color-scheme: dark)');
const systemDark = signal(system.matches);
system.addEventListener('change', () => { systemDark.value = system.matches; });

const stored = () => {
  try {
    return localStorage.getItem(kName) ?? 'auto';
  } catch {
    return 'auto';
  }
};
export const choice = signal(stored());  // auto, light or dark
export const theme = computed(() => (choice.value === 'auto' ? (systemDark.value ? 'dark' : 'light') : choice.value));

export function nextTheme() {
  choice.value = theme.value === 'dark' ? 'light' : 'dark';
  try {
    localStorage.setItem(kName, choice.value);
  } catch {
    // A page opened from a file may not store anything; the choice then lasts as long as the page.
  }
}

const kNames = ['surface', 'raised', 'border', 'text', 'muted', 'faint', 'accent', 'compute', 'communication', 'stage', 'idle', 'weights', 'experts', 'kv',
  'activations', 'good', 'warn', 'bad', 'c1', 'c2', 'c3', 'c4', 'c5', 'ramp0', 'ramp1', 'ramp2', 'ramp3', 'ramp4', 'font'];
let cached = { theme: null };

export function colors() {
  if (cached.theme === theme.value) return cached;
  document.documentElement.dataset.theme = theme.value;
  const style = getComputedStyle(document.documentElement);
  cached = Object.fromEntries(kNames.map(name => [name, style.getPropertyValue(`--${name}`).trim()]));
  cached.theme = theme.value;
  cached.ramp = ramp([0, 1, 2, 3, 4].map(step => cached[`ramp${step}`]));
  return cached;
}

const channels = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));

// 256 colours between five given ones, as CSS text, with what stands out on each.
function ramp(stops) {
  const points = stops.map(channels);
  return Array.from({ length: 256 }, (_, index) => {
    const at = (index / 255) * (points.length - 1);
    const low = Math.min(points.length - 2, Math.floor(at));
    const [r, g, b] = points[low].map((value, channel) => Math.round(value + (at - low) * (points[low + 1][channel] - value)));
    return { fill: `rgb(${r},${g},${b})`, ink: r * 0.299 + g * 0.587 + b * 0.114 > 140 ? '#10202b' : '#ffffff' };
  });
}

export const rampAt = (palette, share) => palette.ramp[Math.max(0, Math.min(255, Math.round(share * 255)))];
