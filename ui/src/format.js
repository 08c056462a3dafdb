// SPDX-License-Identifier: Apache-2.0
// Numbers as text. What is missing or not finite is a dash, so that a gap in the data is never a wrong figure.
export const DASH = '–';
const isNumber = value => typeof value === 'number' && Number.isFinite(value);

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

// 7.25 -> "7.25", 812.4 -> "812", 12345 -> "12.3k": three or four significant digits, so that widths stay close.
export function number(value) {
  if (!isNumber(value)) return DASH;
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toFixed(size >= 1e10 ? 1 : 2)}G`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(size >= 1e7 ? 1 : 2)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  if (size >= 100 || Number.isInteger(value)) return grouped.format(value);
  return value.toFixed(size >= 10 ? 1 : 2);
}

// All digits, for counters in tables.
export const exact = value => (isNumber(value) ? grouped.format(value) : DASH);

// 1 and "page" -> "1 page"; any other count, or none known, has the plural.
export const counted = (count, noun, show = exact) => `${show(count)} ${noun}${count === 1 ? '' : 's'}`;

export const ratio = value => (isNumber(value) ? `${value.toFixed(2)}×` : DASH);

export function percent(share) {
  if (!isNumber(share)) return DASH;
  const value = share * 100;
  return `${value !== 0 && Math.abs(value) < 9.95 ? value.toFixed(1) : value.toFixed(0)} %`;
}

export function bytes(value) {
  if (!isNumber(value)) return DASH;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let scaled = Math.abs(value);
  while (scaled >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    ++unit;
  }
  const digits = unit === 0 || scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2;
  return `${value < 0 ? '-' : ''}${scaled.toFixed(digits)} ${units[unit]}`;
}

export function milliseconds(value) {
  if (!isNumber(value)) return DASH;
  if (value >= 9995) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${value >= 100 || value === 0 ? value.toFixed(0) : value.toFixed(1)} ms`;
}

// A span with its two largest units: "8 s", "3 min 04 s", "2 h 05 min", "3 d 4 h".
export function span(seconds) {
  if (!isNumber(seconds)) return DASH;
  const whole = Math.max(0, Math.floor(seconds));
  const two = value => String(value).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`;
}

// A span that is mostly of a few seconds.
export function age(seconds) {
  if (!isNumber(seconds)) return DASH;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : span(seconds);
}

// How long ago; what is going on at this moment has no figure that would only flicker.
export const ago = seconds => (isNumber(seconds) && seconds < 1 ? 'now' : `${age(seconds)} ago`);

const clockFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dateFormat = new Intl.DateTimeFormat('en-CA', { year: 'numeric', month: '2-digit', day: '2-digit' });

export const clock = unixSeconds => (isNumber(unixSeconds) ? clockFormat.format(new Date(unixSeconds * 1000)) : DASH);
export const dateAndTime = unixSeconds =>
  isNumber(unixSeconds) ? `${dateFormat.format(new Date(unixSeconds * 1000))} ${clock(unixSeconds)}` : DASH;
