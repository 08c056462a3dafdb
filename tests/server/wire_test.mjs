// SPDX-License-Identifier: Apache-2.0
// Bytes on the wire: event streams, headers, and requests that are malformed, huge, slow or hostile, after each of which the server serves.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';

import { Server, frames, kFourRanks, sleep } from './support.mjs';

let server;
const chat = { messages: [{ role: 'user', content: 'Hello' }], max_tokens: 6, temperature: 0 };

before(async () => {
  server = await Server.start([...kFourRanks, '--max-body-bytes', '200000', '--header-timeout', '1', '--max-connections', '64']);
});
after(() => server?.stop());

const serves = async () => assert.equal((await server.post('/v1/chat/completions', chat)).status, 200);
const status = (text) => Number(text.match(/^HTTP\/1\.1 (\d+)/)?.[1]);

test('an event stream, byte by byte', async () => {
  const answer = await server.post('/v1/chat/completions', { ...chat, stream: true, stream_options: { include_usage: true } });
  assert.equal(answer.headers.get('content-type'), 'text/event-stream');
  assert.equal(answer.headers.get('cache-control'), 'no-cache');
  assert.equal(answer.headers.get('x-accel-buffering'), 'no');
  const list = await frames(answer);
  assert.equal(list.at(-1), 'data: [DONE]');
  assert.ok(list.every((frame) => frame.startsWith('data: ') && !frame.includes('\n')));
  const chunks = list.slice(0, -1).map((frame) => JSON.parse(frame.slice(6)));
  assert.equal(chunks[0].choices[0].delta.role, 'assistant');
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.ok(chunks.at(-1).usage.total_tokens > 0);
  assert.ok(chunks.slice(0, -1).every((chunk) => chunk.usage === null));
  assert.ok(chunks.at(-2).choices[0].finish_reason);
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
});

test('usage with every chunk', async () => {
  const list = await frames(await server.post('/v1/completions', { prompt: 'x', max_tokens: 5, stream: true, ignore_eos: true,
    stream_options: { include_usage: true, continuous_usage_stats: true } }));
  const counts = list.slice(0, -1).map((frame) => JSON.parse(frame.slice(6)).usage.completion_tokens);
  assert.ok(counts.every((count, i) => i === 0 || count >= counts[i - 1]));
  assert.equal(counts.at(-1), 5);
});

test('characters are never cut', async () => {
  const list = await frames(await server.post('/v1/completions', { prompt: 'é漢😀', max_tokens: 60, stream: true, temperature: 2, seed: 3, ignore_eos: true, echo: true }));
  const texts = list.slice(0, -1).map((frame) => JSON.parse(frame.slice(6)).choices[0].text);
  assert.ok(texts[0].startsWith('é漢😀'));
});

test('fields that nobody knows are named', async () => {
  const answer = await server.post('/v1/chat/completions', { ...chat, temprature: 1, 'bad\r\nname': 1, user: 'me' });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get('x-ignored-fields'), 'temprature,bad??name');
});

test('ids, routes and methods', async () => {
  const mine = await server.post('/v1/chat/completions', chat, { 'x-request-id': 'mine-1' });
  assert.equal(mine.headers.get('x-request-id'), 'mine-1');
  const unknown = await server.json('/v1/chat/completion', {});
  assert.equal(unknown.status, 404);
  assert.equal(unknown.body.error.code, 'unknown_route');
  assert.match(unknown.body.error.hint, /\/v1\/chat\/completions/);
  assert.equal(unknown.headers.get('x-should-retry'), 'false');
  const method = await fetch(`${server.url}/v1/completions`);
  assert.equal(method.status, 405);
  assert.equal(method.headers.get('allow'), 'POST');
  assert.equal((await fetch(`${server.url}/v1/models`, { method: 'HEAD' })).status, 200);
});

test('text routes', async () => {
  const { body } = await server.json('/v1/tokenize', { prompt: 'Hello sea', return_token_strs: true });
  assert.equal(body.count, body.tokens.length);
  assert.equal((await server.json('/detokenize', { tokens: body.tokens, skip_special_tokens: true })).body.prompt, 'Hello sea');
  const rendered = await server.json('/apply-template', { messages: chat.messages });
  assert.match(rendered.body.prompt, /<\|user\|>Hello<\|end\|><\|assistant\|>$/);
});

const bodies = [
  ['empty', '', 'invalid_json'], ['not JSON', '{"messages": [', 'invalid_json'], ['a list', '[]', 'invalid_json'],
  ['deep', '['.repeat(100000), 'invalid_json'], ['deep objects', '{"a":'.repeat(5000) + '1' + '}'.repeat(5000), 'invalid_json'],
  ['not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]), 'invalid_json'],
  ['messages a string', '{"messages":"hi"}', 'invalid_value'], ['a message a number', '{"messages":[5]}', 'invalid_value'],
  ['a role a list', '{"messages":[{"role":[],"content":"x"}]}', 'invalid_value'], ['no content', '{"messages":[{"role":"user"}]}', 'invalid_value'],
  ['n a fraction', '{"messages":[{"role":"user","content":"x"}],"n":1.5}', 'invalid_value'],
  ['n beyond 64 bits', '{"messages":[{"role":"user","content":"x"}],"n":99999999999999999999}', 'invalid_value'],
  ['temperature a word', '{"messages":[{"role":"user","content":"x"}],"temperature":"hot"}', 'invalid_value'],
  ['temperature 1e999', '{"messages":[{"role":"user","content":"x"}],"temperature":1e999}', null],
  ['many stops', JSON.stringify({ messages: chat.messages, stop: Array(1000).fill('x') }), 'invalid_value'],
  ['an empty stop', JSON.stringify({ messages: chat.messages, stop: '' }), 'invalid_value'],
  ['logit bias', JSON.stringify({ messages: chat.messages, logit_bias: { x: 1 } }), 'invalid_value'],
  ['logit bias of a token beyond', JSON.stringify({ messages: chat.messages, logit_bias: { 99999999: 1 } }), null],
  ['stream options without a stream', JSON.stringify({ ...chat, stream_options: {} }), 'invalid_value'],
  ['attention DP rank', JSON.stringify({ ...chat, attention_dp_rank: 77 }), null],
  ['a template\'s loop', JSON.stringify({ ...chat, chat_template: '{% for i in range(99999999) %}x{% endfor %}' }), 'unsupported_parameter'],
];
for (const [name, body, code] of bodies) {
  test(`body: ${name}`, async () => {
    const answer = await server.post('/v1/chat/completions', body);
    const { error } = await answer.json();
    assert.equal(answer.status, 400, JSON.stringify(error));
    if (code) assert.equal(error.code, code);
    assert.ok(error.message && error.type && error.request_id);
    await serves();
  });
}

test('prompts of wrong forms', async () => {
  for (const prompt of [null, 5, {}, [], [null], [[1, 'x']], [-1], [1e12], [[]], [[99999999]]]) {
    const answer = await server.post('/v1/completions', { prompt, max_tokens: 2 });
    assert.equal(answer.status, 400, JSON.stringify(prompt));
  }
  const { error } = await (await server.post('/v1/completions', { prompt: '', max_tokens: 2 })).json();
  assert.deepEqual([error.code, error.param], ['invalid_value', 'prompt']);
  await serves();
});

const raws = [
  ['nonsense', 'hello\r\n\r\n', 400], ['no version', 'GET /\r\n\r\n', 400], ['HTTP/2 in plain', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', [400, 505]],
  ['a huge header', `GET /health HTTP/1.1\r\nx: ${'y'.repeat(70000)}\r\n\r\n`, 431],
  ['a huge target', `GET /${'y'.repeat(70000)} HTTP/1.1\r\n\r\n`, 431],
  ['a length and chunks', 'POST /v1/completions HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', 400],
  ['two lengths', 'POST /v1/completions HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!', 400],
  ['a negative length', 'POST /v1/completions HTTP/1.1\r\ncontent-length: -5\r\n\r\n', 400],
  ['a body too large', 'POST /v1/completions HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n', 413],
  ['chunks without end', `POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n${'10000\r\n' + 'x'.repeat(65536) + '\r\n'}`.repeat(1) + ('10000\r\n' + 'x'.repeat(65536) + '\r\n').repeat(4), 413],
  ['a bad chunk', 'POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n', 400],
  ['a wrong type', 'POST /v1/completions HTTP/1.1\r\ncontent-type: text/xml\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}', 415],
  ['a compressed body', 'POST /v1/completions HTTP/1.1\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}', 415],
  ['a path with bytes', 'GET /%00%ff%0d%0a HTTP/1.1\r\nconnection: close\r\n\r\n', 404],
];
for (const [name, bytes, wanted] of raws) {
  test(`raw: ${name}`, async () => {
    const text = await server.raw(bytes);
    assert.ok([wanted].flat().includes(status(text)), text.slice(0, 300));
    await serves();
  });
}

test('slow headers are cut off, others are served meanwhile', async () => {
  const begin = Date.now();
  const slow = server.raw('GET /health HTTP/1.1\r\nx: ', 20);
  await serves();
  assert.equal(status(await slow), 408);
  assert.ok(Date.now() - begin < 10000);
});

test('requests behind one another on a connection', async () => {
  const one = 'GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n';
  const text = await server.raw(one + one + one.replace('host: x', 'connection: close'));
  assert.equal(text.match(/HTTP\/1\.1 200/g).length, 3);
});

test('HTTP/1.0 gets a stream without chunks', async () => {
  const body = JSON.stringify({ ...chat, stream: true });
  const text = await server.raw(`POST /v1/chat/completions HTTP/1.0\r\ncontent-length: ${body.length}\r\n\r\n${body}`, 60);
  assert.ok(!/transfer-encoding/i.test(text));
  assert.ok(text.endsWith('data: [DONE]\n\n'));
});

test('expect: 100-continue', async () => {
  const body = JSON.stringify(chat);
  const text = await server.raw(`POST /v1/chat/completions HTTP/1.1\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n`, 1);
  assert.match(text, /^HTTP\/1\.1 100 Continue\r\n\r\n/);
});

test('connections beyond the limit are told so', async () => {
  const sockets = Array.from({ length: 70 }, () => net.connect(server.port, '127.0.0.1').on('error', () => {}));
  await sleep(300);
  const text = await server.raw('GET /health/live HTTP/1.1\r\n\r\n', 3);
  assert.equal(status(text), 503);
  assert.match(text, /no_capacity/);
  for (const socket of sockets) socket.destroy();
  await sleep(100);
  await serves();
});

test('a client that reads nothing does not hold up others', async () => {
  const body = JSON.stringify({ ...chat, max_tokens: 1500, stream: true, ignore_eos: true });
  const socket = net.connect(server.port, '127.0.0.1');
  socket.pause();
  socket.write(`POST /v1/chat/completions HTTP/1.1\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  await serves();
  socket.destroy();
});
