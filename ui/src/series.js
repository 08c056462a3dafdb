// SPDX-License-Identifier: Apache-2.0
// Points in time as what a chart takes. Pure functions.

const kGapSeconds = 4;  // a longer silence is shown as a gap, not as a line across it

// Columns for uPlot: times, then one column a series, with a row of nulls where the data has a gap.
export function columns(list, series, seconds) {
  const from = list.length ? list[list.length - 1].t - seconds : 0;
  const table = [[], ...series.map(() => [])];
  let before = null;
  for (const point of list) {
    if (point.t < from) continue;
    if (before !== null && point.t - before > kGapSeconds) {
      table[0].push(before + 1);
      series.forEach((_, index) => table[index + 1].push(null));
    }
    table[0].push(point.t);
    series.forEach((one, index) => table[index + 1].push(one.get(point) ?? null));
    before = point.t;
  }
  return table;
}

// The next of 1, 2, 2.5, 5 times a power of ten, so that an axis changes seldom; of bytes, the next
// power of two.
export function niceCeiling(value, binary = false) {
  if (!(value > 0)) return 1;
  if (binary) return 2 ** Math.ceil(Math.log2(value));
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map(step => step * power).find(step => step >= value * 0.9999) ?? 10 * power;
}
