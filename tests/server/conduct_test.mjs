// SPDX-License-Identifier: Apache-2.0
// How the server conducts itself: keys, TLS, loading, full queues, draining, ranks that fail or stall.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

import { Server, frames, kFourRanks, program, root, sleep } from './support.mjs';

const chat = { messages: [{ role: 'user', content: 'Hello' }], max_tokens: 4 };
const long = { ...chat, max_tokens: 1500, ignore_eos: true, stream: true };
const withServer = (name, flags, run, options) => test(name, async () => {
  const server = await Server.start([...kFourRanks, ...flags], options);
  try { await run(server); } finally { await server.stop(); }
});

withServer('nothing but health answers without the key', ['--api-key', 'secret', '--admin-key', 'root'], async (server) => {
  for (const route of ['/health', '/health/live', '/health/ready', '/v1/health']) assert.equal((await fetch(server.url + route)).status, 200, route);
  const routes = [['GET', '/v1/models'], ['GET', '/version'], ['GET', '/server_info'], ['GET', '/v1/config'], ['GET', '/v1/requests'],
    ['POST', '/v1/chat/completions'], ['POST', '/v1/completions'], ['POST', '/tokenize'], ['POST', '/detokenize'], ['POST', '/apply-template'],
    ['POST', '/v1/tokenize'], ['POST', '/flush_cache'], ['POST', '/reset_prefix_cache'], ['POST', '/start_expert_distribution_record'],
    ['POST', '/stop_expert_distribution_record'], ['POST', '/dump_expert_distribution_record'], ['DELETE', '/v1/requests/x'],
    ['GET', '/metrics'], ['GET', '/v1/ranks'], ['GET', '/v1/experts'], ['GET', '/v1/events']];
  for (const [method, route] of routes) {
    for (const key of [undefined, 'wrong', 'secre', 'secrets', '']) {
      const answer = await fetch(server.url + route, { method, headers: key === undefined ? {} : { authorization: `Bearer ${key}` } });
      assert.ok([401, 404].includes(answer.status), `${method} ${route}: ${answer.status}`);
      if (answer.status === 404) assert.equal((await answer.json()).error.code, 'unknown_route');
    }
  }
  assert.equal((await server.post('/v1/chat/completions', chat, { authorization: 'Bearer secret' })).status, 200);
  const refused = await server.json('/flush_cache', {}, { authorization: 'Bearer secret' });
  assert.equal(refused.status, 403);
  assert.equal(refused.body.error.code, 'admin_key_required');
  assert.equal((await server.post('/flush_cache', {}, { authorization: 'Bearer root' })).status, 200);
});

function certify(folder, name) {
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', path.join(folder, 'key.pem'), '-out', path.join(folder, 'cert.pem'),
    '-days', '2', '-subj', `/CN=${name}`], { stdio: 'ignore' });
}

// Each on a connection of its own, so that each sees the certificate of now.
const askTls = (url, body, headers = {}) => new Promise((resolve, reject) => {
  let name;
  const request = https.request(url, { method: body ? 'POST' : 'GET', headers, rejectUnauthorized: false, agent: false }, (answer) => {
    let text = '';
    name = answer.socket.getPeerCertificate().subject.CN;
    answer.on('data', (data) => { text += data; });
    answer.on('end', () => resolve({ status: answer.statusCode, text, name }));
  });
  request.on('error', reject);
  request.end(body);
});

async function withTls(flags, run) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'shoal-tls-'));
  certify(folder, 'localhost');
  const server = await Server.start([...kFourRanks, '--tls-cert', path.join(folder, 'cert.pem'), '--tls-key', path.join(folder, 'key.pem'), ...flags(folder)],
    { ready: false, scheme: 'https' });
  try {
    while ((await askTls(`${server.url}/health`)).status !== 200) await sleep(50);
    await run(server, folder);
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

test('TLS', () => withTls(() => [], async (server) => {
  const answer = await askTls(`${server.url}/v1/chat/completions`, JSON.stringify({ ...chat, stream: true }));
  assert.equal(answer.status, 200);
  assert.ok(answer.text.endsWith('data: [DONE]\n\n'));
  await server.raw('GET /health HTTP/1.1\r\n\r\n', 2);  // plain text to a TLS port
  assert.equal((await askTls(`${server.url}/health`)).status, 200);
}));

test('bench serve over TLS trusts whom the machine trusts, or anybody if told so', () => withTls(() => [], async (server, folder) => {
  const bench = (host, flags, env) => spawnSync(program, ['bench', 'serve', '--base-url', `https://${host}:${server.port}`, '--num-prompts', '3',
    '--random-input-len', '8', '--random-output-len', '4', '--quiet', ...flags], { cwd: root, encoding: 'utf8', env: { PATH: process.env.PATH, ...env } });
  const trusted = { SSL_CERT_FILE: path.join(folder, 'cert.pem') };
  for (const outcome of [bench('localhost', [], trusted), bench('127.0.0.1', ['--insecure'], {})]) {
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.match(outcome.stdout, /Successful requests: +3\n/);
  }
  for (const outcome of [bench('localhost', [], {}), bench('127.0.0.1', [], trusted)]) {
    assert.equal(outcome.status, 1);
    assert.match(outcome.stderr, /certificate is not trusted.*--insecure/);
  }
}));

test('SIGHUP brings new keys and a new certificate, and unfit files change nothing', () => {
  const keyFile = (folder) => path.join(folder, 'keys');
  const flags = (folder) => {
    writeFileSync(keyFile(folder), '# two of them\none\n\ntwo \n');
    return ['--api-key-file', keyFile(folder)];
  };
  return withTls(flags, async (server, folder) => {
    const status = async (key) => (await askTls(`${server.url}/v1/models`, undefined, { authorization: `Bearer ${key}` })).status;
    const all = () => Promise.all(['one', 'two', 'three'].map(status));
    const hangUp = async (pattern) => {
      const begin = server.log.length;
      server.process.kill('SIGHUP');
      await server.logged(new RegExp(`[^]{${begin}}[^]*${pattern}`));
    };
    assert.deepEqual(await all(), [200, 200, 401]);
    const going = askTls(`${server.url}/v1/chat/completions`, JSON.stringify({ ...long, max_tokens: 200 }), { authorization: 'Bearer one' });
    await sleep(100);

    writeFileSync(keyFile(folder), 'three\n');
    certify(folder, 'second');
    await hangUp('reloaded');
    assert.deepEqual(await all(), [401, 401, 200]);
    assert.equal((await askTls(`${server.url}/health`)).name, 'second');
    const { status: code, text } = await going;
    assert.equal(code, 200);
    assert.ok(text.endsWith('data: [DONE]\n\n'), 'what was running went on');

    writeFileSync(keyFile(folder), '# none\n');
    certify(folder, 'third');
    await hangUp('not reloaded.*holds no key');
    writeFileSync(keyFile(folder), 'four\n');
    writeFileSync(path.join(folder, 'key.pem'), 'no key');
    await hangUp('not reloaded.*tls-key');
    assert.deepEqual(await all(), [401, 401, 200]);
    assert.equal((await askTls(`${server.url}/health`)).name, 'second');
  });
});

withServer('while the model is loaded, the port answers', [], async (server) => {
  const first = await server.json('/health/ready');
  if (first.status === 503) {
    assert.equal(first.body.error.code, 'loading');
    const refused = await server.json('/v1/chat/completions', chat);
    assert.ok([503, 200].includes(refused.status));
  }
  await server.becomes(200);
}, { ready: false });

withServer('a full queue is refused', ['--max-queue', '3', '--max-batch-size', '1'], async (server) => {
  const asks = Array.from({ length: 12 }, () => server.post('/v1/chat/completions', { ...chat, max_tokens: 200, ignore_eos: true }));
  const answers = await Promise.all(asks);
  const refused = answers.filter((answer) => answer.status === 429);
  assert.ok(refused.length >= 1 && refused.length < 12, answers.map((answer) => answer.status).join());
  const body = await refused[0].json();
  assert.equal(body.error.code, 'queue_full');
  assert.ok(Number(refused[0].headers.get('retry-after')) >= 1);
  assert.equal(refused[0].headers.get('x-should-retry'), 'true');
});

withServer('unknown fields are refused where that is asked for', ['--strict-requests'], async (server) => {
  const refused = await server.json('/v1/chat/completions', { ...chat, temprature: 1 });
  assert.equal(refused.status, 400);
  assert.equal(refused.body.error.code, 'unknown_field');
  assert.equal(refused.body.error.param, 'temprature');
});

withServer('SIGTERM lets running requests end', ['--drain-timeout', '60'], async (server) => {
  const answer = await server.post('/v1/chat/completions', { ...long, max_tokens: 150 });
  server.process.kill('SIGTERM');
  await server.becomes(503);
  const refused = await server.json('/v1/chat/completions', chat);
  assert.equal(refused.body.error.code, 'draining');
  const list = await frames(answer);
  assert.equal(list.at(-1), 'data: [DONE]');
  // The model may say the word: an error is a frame of its own.
  assert.ok(list.slice(0, -1).every((frame) => JSON.parse(frame.slice(6)).error === undefined));
  assert.deepEqual(await server.ended, { code: 0, signal: null });
});

withServer('a drain has an end', ['--drain-timeout', '0.2'], async (server) => {
  const answer = await server.post('/v1/chat/completions', long);
  server.process.kill('SIGTERM');
  const list = await frames(answer);
  assert.match(list.at(-2), /"code":"draining"/);
  assert.equal((await server.ended).code, 0);
});

withServer('a second signal stops at once', ['--drain-timeout', '100'], async (server) => {
  const answer = await server.post('/v1/chat/completions', long);
  server.process.kill('SIGTERM');
  await server.becomes(503);
  server.process.kill('SIGTERM');
  await frames(answer).catch(() => {});
  assert.equal((await server.ended).code, 0);
});

withServer('a rank that is killed: streams end with an error, and the server comes back', ['--inject', 'rank=3,step=30,kill'], async (server) => {
  const answers = await Promise.all(Array.from({ length: 8 }, () => server.post('/v1/chat/completions', long)));
  const lists = await Promise.all(answers.map((answer) => frames(answer)));
  const killed = Date.now();
  for (const list of lists) {
    assert.equal(list.at(-1), 'data: [DONE]');
    const { error } = JSON.parse(list.at(-2).slice(6));
    assert.equal(error.code, 'rank_lost');
    assert.match(error.message, /rank 3 .*killed at step 30/);
  }
  await server.becomes(200);
  assert.ok(Date.now() - killed < 10000, 'not ready within 10 s');
  const ready = await server.json('/health/ready');
  assert.equal(ready.body.restarts, 1);
  assert.match(ready.body.last_failure, /rank 3/);
  assert.equal((await server.post('/v1/chat/completions', chat)).status, 200);
});

withServer('a rank that stalls is named', ['--stall-seconds', '1', '--inject', 'rank=2,step=5,stall=4s'], async (server) => {
  const asked = server.post('/v1/chat/completions', { ...chat, max_tokens: 30, ignore_eos: true });
  await server.becomes(503);
  const ready = await server.json('/health/ready');
  assert.equal(ready.body.error.code, 'rank_stalled');
  assert.equal(ready.body.stalled_rank, 2);
  assert.match(ready.body.error.message, /^rank 2 /);
  assert.equal((await fetch(`${server.url}/health/live`)).status, 200);
  await server.becomes(200);
  assert.equal((await asked).status, 200);
});

withServer('expert loads are recorded', [], async (server) => {
  const none = await server.json('/dump_expert_distribution_record', {});
  assert.equal(none.status, 400);
  assert.equal((await server.post('/start_expert_distribution_record', {})).status, 200);
  await server.post('/v1/chat/completions', chat);
  const stopped = await server.json('/stop_expert_distribution_record', {});
  assert.ok(stopped.body.steps >= 4);
  assert.deepEqual((await server.json('/dump_expert_distribution_record', {})).body, stopped.body);
  rmSync(path.join(process.cwd(), stopped.body.path), { recursive: true, force: true });
});
