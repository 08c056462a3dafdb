// SPDX-License-Identifier: Apache-2.0
// 256 streams at once, each equal to its own single run, and what they cost: processor time of the thread that does HTTP (the first) and of
// the workers that tokenise. That is told, not judged: it depends on what else the machine does.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

import { Server, frames } from './support.mjs';

const kStreams = Number(process.env.SHOAL_STREAMS ?? 256);

// Seconds of processor time of the server's HTTP threads.
function httpSeconds(pid) {
  let ticks = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8');
    if (Number(task) !== pid && !stat.includes('(http-worker)')) continue;
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / 100;
}

const text = (list) => list.slice(0, -1).map((frame) => JSON.parse(frame.slice(6)).choices[0]?.delta.content ?? '').join('');

test(`${kStreams} streams at once`, async (context) => {
  const server = await Server.start(['--tp', '4', '--ep', '4', '--threads', '1', '--deterministic', '--kv-cache-max-tokens', '65536',
    '--max-batch-size', '256', '--max-num-tokens', '2048', '--chunked-prefill']);
  try {
    const ask = async (i) => {
      const answer = await server.post('/v1/chat/completions', { messages: [{ role: 'user', content: `Tell me story number ${i}.` }],
        max_tokens: 24, temperature: 0.8, seed: i, stream: true,
        stream_options: { include_usage: true } });
      assert.equal(answer.status, 200);
      const list = await frames(answer);
      assert.equal(list.at(-1), 'data: [DONE]');
      tokens += JSON.parse(list.at(-2).slice(6)).usage.completion_tokens;
      return text(list);
    };
    const before = httpSeconds(server.process.pid);
    let tokens = 0;
    const together = await Promise.all(Array.from({ length: kStreams }, (_, i) => ask(i)));
    const cost = httpSeconds(server.process.pid) - before;
    context.diagnostic(`HTTP took ${(cost * 1e6 / tokens).toFixed(1)} ms of a core per 1,000 tokens (${tokens} tokens, ${cost.toFixed(2)} s)`);
    assert.equal(readFileSync(`/proc/${server.process.pid}/status`, 'utf8').match(/Threads:\s+(\d+)/)[1] < 32, true, 'a thread per stream');
    for (let i = 0; i < kStreams; ++i) assert.equal(await ask(i), together[i], `stream ${i}`);
  } finally {
    await server.stop();
  }
});
