// SPDX-License-Identifier: Apache-2.0
// 256 streams at once, each equal to its own single run, and what they cost the HTTP side.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { Server, frames } from './support.mjs';

const kStreams = Number(process.env.SHOAL_STREAMS ?? 256);

const text = (list) => list.slice(0, -1).map((frame) => JSON.parse(frame.slice(6)).choices[0]?.delta.content ?? '').join('');

test(`${kStreams} streams at once`, async () => {
  const server = await Server.start(['--tp', '4', '--ep', '4', '--threads', '1', '--deterministic', '--kv-cache-max-tokens', '65536',
    '--max-batch-size', '256', '--max-num-tokens', '2048', '--chunked-prefill']);
  try {
    const ask = async (i) => {
      const answer = await server.post('/v1/chat/completions', { messages: [{ role: 'user', content: `Tell me story number ${i}.` }],
        max_tokens: 24, temperature: 0.8, seed: i, stream: true });
      assert.equal(answer.status, 200);
      const list = await frames(answer);
      assert.equal(list.at(-1), 'data: [DONE]');
      return text(list);
    };
    const together = await Promise.all(Array.from({ length: kStreams }, (_, i) => ask(i)));
    assert.equal(readFileSync(`/proc/${server.process.pid}/status`, 'utf8').match(/Threads:\s+(\d+)/)[1] < 32, true, 'a thread per stream');
    for (let i = 0; i < kStreams; ++i) assert.equal(await ask(i), together[i], `stream ${i}`);
  } finally {
    await server.stop();
  }
});
