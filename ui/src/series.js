// SPDX-License-Identifier: Apache-2.0
// Points in time as what a chart takes. Pure functions.

const kGapSeconds = 4;    // a longer silence of the server is shown as a gap, not as a line across it
export const kJoinSeconds = 15;  // values so far apart are still joined: a latency is there only in a second in which a token came

// The newest point of the last so many seconds that has the figure, and how many seconds old it is; null if there is none.
export function newestWith(list, get, seconds) {
  const now = list.at(-1)?.t;
  for (let at = list.length - 1; at >= 0 && now - list[at].t <= seconds; --at) {
    if (get(list[at]) != null) return { point: list[at], age: now - list[at].t };
  }
  return null;
}

// What is missing (undefined) between two values that are near enough stays so, and uPlot draws a line across it; all else becomes a gap (null).
function join(times, column) {
  let [before, known] = [-1, false];
  column.forEach((value, at) => {
    if (value === undefined) return;
    if (!known || value === null || times[at] - times[before] > kJoinSeconds) column.fill(null, before + 1, at);
    [before, known] = [at, value !== null];
  });
  column.fill(null, before + 1);
}

// The rows of such a column whose value has no neighbour to draw a line to.
export const alone = column => column.flatMap((value, at) => {
  const linked = step => {
    let next = at + step;
    while (column[next] === undefined && next >= 0 && next < column.length) next += step;
    return column[next] != null;
  };
  return value != null && !linked(-1) && !linked(1) ? [at] : [];
});

// Columns for uPlot: times, then one column a series, with a row of nulls where the server was silent.
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
    series.forEach((one, index) => table[index + 1].push(one.get(point) ?? undefined));
    before = point.t;
  }
  for (const column of table.slice(1)) join(table[0], column);
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
