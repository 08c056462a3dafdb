// SPDX-License-Identifier: Apache-2.0
// The dashboard's pure functions. Node only: node --test tests/ui/units_test.mjs
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { frameReader } from '../../ui/src/event_stream.js';
import { cellText, mapLayout, rowCells } from '../../ui/src/expert_layout.js';
import * as format from '../../ui/src/format.js';
import { coordinates, gridLayout } from '../../ui/src/rank_layout.js';
import { alone, columns, newestWith, niceCeiling } from '../../ui/src/series.js';

test('numbers keep three or four digits, and what is missing is a dash', () => {
  const cases = [[0, '0'], [7, '7'], [7.254, '7.25'], [42.31, '42.3'], [812.4, '812'], [9999, '9,999'], [12345, '12.3k'], [4.2e6, '4.20M'], [3e9, '3.00G'], [-5, '-5']];
  for (const [value, text] of cases) assert.equal(format.number(value), text);
  for (const nothing of [null, undefined, NaN, Infinity, 'x']) {
    for (const show of [format.number, format.percent, format.bytes, format.milliseconds, format.span, format.ratio, format.exact, format.age, format.ago]) assert.match(show(nothing), /^–/);
  }
});

test('bytes, spans, times', () => {
  for (const [value, text] of [[0, '0 B'], [1023, '1023 B'], [1024, '1.00 KiB'], [15 * 1024, '15.0 KiB'], [5.5 * 2 ** 20, '5.50 MiB'], [2 ** 60, '1024 PiB']]) assert.equal(format.bytes(value), text);
  for (const [value, text] of [[8.9, '8 s'], [184, '3 min 04 s'], [7500, '2 h 05 min'], [273600, '3 d 4 h'], [-3, '0 s']]) assert.equal(format.span(value), text);
  for (const [value, text] of [[0, '0 ms'], [0.38, '0.4 ms'], [172.4, '172 ms'], [1310, '1.31 s'], [12000, '12.0 s']]) assert.equal(format.milliseconds(value), text);
  for (const [value, text] of [[0, '0 %'], [0.0834, '8.3 %'], [0.0999, '10 %'], [1, '100 %']]) assert.equal(format.percent(value), text);
  assert.equal(format.ago(0.4), 'now');
  assert.equal(format.ago(3.21), '3.2 s ago');
});

test('frames come out whole however the bytes are cut', () => {
  const stream = ': ping\n\ndata: {"a":1}\n\ndata:two\r\ndata: lines\r\n\r\nevent: x\nid: 7\n\ndata: end\n\n';
  const expected = ['{"a":1}', 'two\nlines', 'end'];
  for (let size = 1; size <= stream.length; ++size) {
    const read = frameReader();
    const frames = [];
    for (let at = 0; at < stream.length; at += size) frames.push(...read(stream.slice(at, at + size)));
    assert.deepEqual(frames, expected, `pieces of ${size}`);
  }
});

test('a gap in time is a gap in the chart, and the window cuts', () => {
  const list = [1, 2, 3, 10, 11].map(t => ({ t, value: t * 10 }));
  const series = [{ get: point => point.value }, { get: point => point.missing?.p50 }];
  assert.deepEqual(columns(list, series, 100), [[1, 2, 3, 4, 10, 11], [10, 20, 30, null, 100, 110], [null, null, null, null, null, null]]);
  assert.deepEqual(columns(list, series, 1)[0], [10, 11]);
  assert.deepEqual(columns([], series, 60), [[], [], []]);
});

test('a line joins values of seconds near each other, and one by itself is a dot', () => {
  const list = Array.from({ length: 60 }, (_, t) => ({ t, ttft: [3, 6, 40].includes(t) ? { p50: t } : null }));
  const get = point => point.ttft?.p50;
  const [, column] = columns(list, [{ get }], 100);
  assert.deepEqual(column.slice(2, 9), [null, 3, undefined, undefined, 6, null, null]);
  assert.equal(column.indexOf(undefined, 6), -1);
  assert.deepEqual(alone(column), [40]);
  const silent = list.filter(point => point.t < 4 || point.t > 5);
  silent.forEach(point => { if (point.t >= 6) point.t += 4; });
  assert.deepEqual(alone(columns(silent, [{ get }], 100)[1]), [3, 5, 39]);
});

test('a figure of seconds ago is still the newest, but not for ever', () => {
  const list = [{ t: 1, a: 5 }, { t: 2, a: null }, { t: 9 }];
  assert.deepEqual(newestWith(list, point => point.a, 10), { point: list[0], age: 8 });
  assert.equal(newestWith(list, point => point.a, 7), null);
  assert.equal(newestWith([], point => point.a, 7), null);
});

test('axis ends are round, and no smaller than the data', () => {
  for (const value of [0.0003, 0.7, 1, 1.01, 17, 99, 101, 4e9]) {
    assert.ok(niceCeiling(value) >= value * 0.999 && niceCeiling(value) <= value * 2, `${value} -> ${niceCeiling(value)}`);
  }
  assert.equal(niceCeiling(5e6, true), 2 ** 23);
  for (const nothing of [0, -1, NaN]) assert.equal(niceCeiling(nothing), 1);
});

const world = (count, sizes) => Array.from({ length: count }, (_, rank) => {
  const perStage = sizes.tp * (sizes.cp ?? 1);
  return { rank, dp: Math.floor(rank / (perStage * sizes.pp)), pp: Math.floor(rank / perStage) % sizes.pp, cp: 0, tp: rank % sizes.tp, moe_ep: 0 };
});

test('every rank has a cell inside the canvas and none covers another', () => {
  for (const [count, sizes] of [[1, { dp: 1, pp: 1, tp: 1 }], [4, { dp: 1, pp: 1, tp: 4 }], [16, { dp: 2, pp: 2, tp: 4 }], [36, { dp: 1, pp: 1, tp: 36 }], [256, { dp: 4, pp: 1, tp: 64 }], [1024, { dp: 8, pp: 16, tp: 8 }]]) {
    for (const width of [280, 700, 1300, 2400]) {
      const plan = gridLayout(world(count, sizes), sizes, width);
      assert.equal(plan.cells.length, count);
      plan.cells.forEach((cell, index) => {
        assert.ok(cell.x >= 0 && cell.y >= 0 && cell.y + cell.height <= plan.height, `rank ${index} at width ${width}`);
        if (width >= 700) assert.ok(cell.x + cell.width <= width + 1, `rank ${index} of ${count} ends at ${cell.x + cell.width} of ${width}`);
        for (const other of plan.cells.slice(Math.max(0, index - 80), index)) {
          const apart = cell.x >= other.x + other.width || other.x >= cell.x + cell.width || cell.y >= other.y + other.height || other.y >= cell.y + cell.height;
          assert.ok(apart, `ranks ${cell.rank.rank} and ${other.rank.rank} of ${count} at width ${width}`);
        }
      });
    }
  }
});

test('coordinates name only what is cut', () => {
  const rank = { dp: 1, pp: 2, cp: 0, tp: 3, attn_dp: 3, moe_tp: 0, moe_ep: 5 };
  assert.equal(coordinates(rank, { dp: 1, pp: 1, cp: 1, tp: 1 }), '');
  assert.equal(coordinates(rank, { dp: 2, pp: 4, cp: 1, tp: 8, attention_dp: 1, moe_ep: 8 }), 'dp 1 · stage 2 · tp 3 · ep 5');
  assert.equal(coordinates(rank, { dp: 2, pp: 4, cp: 2, tp: 8, attention_dp: 8, moe_tp: 2, moe_ep: 4 }, true), 'cp 0 · tp 3 · adp 3 · moe-tp 0 · ep 5');
});

const layer = { layer: 3, slots: [0, 1, 2, 0, -1, 1], expert_tokens: [100, 60, 40], rank_tokens: [120, 80], max_over_mean: 1.2 };
const data = { experts: 3, ep_size: 2, slots: 6 };

test('copies of an expert share its tokens, and an empty slot has none', () => {
  const cells = rowCells(layer, 'slots', 3);
  assert.deepEqual(cells.map(cell => cell.tokens), [50, 30, 40, 50, 0, 30]);
  assert.deepEqual(cells[0].copies, [0, 3]);
  assert.equal(cells[4].empty, true);
  assert.equal(cells[3].rank, 1);
  assert.equal(cells.reduce((sum, cell) => sum + cell.tokens, 0), 200);
  assert.deepEqual(rowCells(layer, 'experts', 3).map(cell => cell.tokens), [100, 60, 40]);
  assert.deepEqual(rowCells(layer, 'ranks', 3).map(cell => cell.tokens), [120, 80]);
  const counted = rowCells({ ...layer, slot_tokens: [70, 10, 40, 30, 0, 50] }, 'slots', 3);
  assert.deepEqual(counted.map(cell => cell.tokens), [70, 10, 40, 30, 0, 50]);
});

test('a point on the map is the cell that is drawn there', () => {
  const replica = { layers: [layer] };
  for (const view of ['slots', 'experts', 'ranks']) {
    const plan = mapLayout(data, replica, view, true, 900);
    for (let column = 0; column < plan.across; ++column) assert.equal(plan.columnAt(plan.x(column) + plan.cell / 2), column, `${view} ${column}`);
    assert.equal(plan.columnAt(0), null);
    assert.equal(plan.columnAt(899), null);
  }
  const plan = mapLayout(data, replica, 'slots', true, 900);
  assert.match(cellText(plan, { row: 0, column: 3 }), /layer 3 · slot 3 on EP rank 1 · expert 0 · 50 tokens, 25 % of the layer · 2 copies: slot 0 \(rank 0\), slot 3 \(rank 1\); this one takes 50 %/);
  assert.match(cellText(plan, { row: 0, column: 4 }), /empty/);
  assert.match(cellText(mapLayout(data, replica, 'ranks', true, 900), { row: 0, column: 0 }), /1\.20× the mean/);
  assert.equal(cellText(plan, null), '');
});

test('one of a thing is not several', () => {
  assert.deepEqual([0, 1, 2, null].map(count => format.counted(count, 'page')), ['0 pages', '1 page', '2 pages', '– pages']);
  assert.equal(format.counted(12345, 'token', format.number), '12.3k tokens');
});
