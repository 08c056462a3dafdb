// SPDX-License-Identifier: Apache-2.0
// shoal bench serve --find-rate against a real server: the rate that it names keeps the bounds, in its own runs.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { Server, kFourRanks, program, root } from './support.mjs';

let server;
const folder = mkdtempSync(path.join(os.tmpdir(), 'shoal-bench-'));
before(async () => { server = await Server.start([...kFourRanks, '--api-key', 'secret']); });
after(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

const kKeys = ['date', 'backend', 'model_id', 'num_prompts', 'request_rate', 'burstiness', 'duration', 'completed', 'failed', 'total_input_tokens',
  'total_output_tokens', 'request_throughput', 'request_goodput', 'output_throughput', 'total_token_throughput', 'max_output_tokens_per_s', 'max_concurrent_requests',
  ...['ttft', 'tpot', 'itl', 'e2el'].flatMap((name) => ['mean', 'median', 'std', 'p50', 'p90', 'p99'].map((figure) => `${figure}_${name}_ms`))];

// Its runs, and what it printed.
async function findRate(bounds, requests, tokens) {
  const child = spawn(program, ['bench', 'serve', '--base-url', server.url, '--num-prompts', String(requests), '--random-input-len', '16',
    '--random-output-len', String(tokens), '--find-rate', bounds, '--goodput', 'ttft:60000', 'e2el:60000', '--save-result', '--result-dir', folder, '--result-filename', 'runs.json',
    '--html', path.join(folder, 'report.html'), '--quiet'],
  { cwd: root, env: { PATH: process.env.PATH, OPENAI_API_KEY: 'secret' }, stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.on('data', (data) => { out += data; });
  child.stderr.on('data', (data) => { err += data; });
  const code = await new Promise((resolve) => child.on('close', resolve));
  assert.equal(code, 0, err);
  return { out, runs: readFileSync(path.join(folder, 'runs.json'), 'utf8').trim().split('\n').map((line) => JSON.parse(line)) };
}

test('the flood keeps easy bounds, and its rate is the one', async () => {
  const { out, runs } = await findRate('p99_e2el_ms<=60000,failed<=0', 24, 8);
  const [flood] = runs;
  assert.equal(runs.length, 2);
  for (const run of runs) {
    for (const key of kKeys) assert.ok(key in run, key);
    assert.equal(run.completed, 24);
    assert.equal(run.total_output_tokens, 8 * 24);
    assert.equal(run.request_goodput, run.request_throughput, 'all keep such a goodput');
  }
  assert.equal(flood.request_rate, 'inf');
  assert.equal(runs[1].request_rate, flood.request_throughput);
  assert.equal(runs[1].found_rate, flood.request_throughput);
  assert.match(out, new RegExp(`highest request rate that keeps the bounds: ${flood.request_throughput.toFixed(3)} requests/s`));
  assert.match(readFileSync(path.join(folder, 'report.html'), 'utf8'), /<svg/);
});

// A bound that the flood breaks: it has all requests under way at once.
test('the rate that is found keeps a bound that the flood breaks, and the next one up does not', async () => {
  const kMost = 3;
  const { runs: [flood, ...tried] } = await findRate(`max_concurrent_requests<=${kMost}`, 12, 32);
  const keeps = (run) => run.max_concurrent_requests <= kMost && run.failed === 0;
  assert.ok(!keeps(flood), `${flood.max_concurrent_requests} at once`);
  const found = tried.at(-1).found_rate;
  assert.ok(found > 0 && found <= flood.request_throughput, `found ${found}`);
  assert.ok(keeps(tried.find((run) => run.request_rate === found)), 'its own run keeps the bound');
  const broke = tried.filter((run) => !keeps(run)).map((run) => run.request_rate);
  if (found < flood.request_throughput) assert.ok(Math.min(...broke) > found && Math.min(...broke) <= found * 1.0501, `${found} of ${broke}`);
});
