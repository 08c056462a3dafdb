// SPDX-License-Identifier: Apache-2.0
// OpenAI's official client against a server of four ranks.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Server, openai, sleep } from './support.mjs';

const OpenAI = await openai();
if (!OpenAI) {
  console.log("SKIPPED: the npm package openai is not in build/openai; run tools/setup --tests with a network");
  process.exit(77);
}

let server, client;
const messages = [{ role: 'user', content: 'Tell me about the sea.' }];
const model = 'shoal-tiny';

before(async () => {
  server = await Server.start();
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
after(() => server?.stop());

test('models', async () => {
  const list = await client.models.list();
  assert.equal(list.data[0].id, model);
  assert.equal(list.data[0].max_model_len, 2048);
  assert.equal((await client.models.retrieve(model)).id, model);
});

test('chat', async () => {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 12, temperature: 0 });
  const [choice] = answer.choices;
  assert.equal(answer.object, 'chat.completion');
  assert.match(answer.id, /^chatcmpl-/);
  assert.match(answer.system_fingerprint, /^shoal-.*tp4/);
  assert.equal(choice.message.role, 'assistant');
  assert.ok(['stop', 'length'].includes(choice.finish_reason));
  assert.ok(answer.usage.prompt_tokens > 0);
  assert.ok(answer.usage.completion_tokens <= 12);
  assert.equal(typeof answer.usage.prompt_tokens_details.cached_tokens, 'number');
  assert.match(answer._request_id, /^req_/);
});

test('a second time, the prompt comes from the cache', async () => {
  const long = [{ role: 'user', content: 'word '.repeat(100) }];
  await client.chat.completions.create({ model, messages: long, max_tokens: 2 });
  const again = await client.chat.completions.create({ model, messages: long, max_tokens: 2 });
  assert.ok(again.usage.prompt_tokens_details.cached_tokens >= 32);
  await server.post('/flush_cache', {});
  const flushed = await client.chat.completions.create({ model, messages: long, max_tokens: 2 });
  assert.equal(flushed.usage.prompt_tokens_details.cached_tokens, 0);
});

test('streaming says the same as a whole answer', async () => {
  const ask = { model, messages, max_tokens: 40, temperature: 0 };
  const whole = await client.chat.completions.create(ask);
  const stream = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
  let text = '', role, reason, usage;
  for await (const chunk of stream) {
    assert.equal(chunk.object, 'chat.completion.chunk');
    if (chunk.usage) { assert.deepEqual(chunk.choices, []); usage = chunk.usage; continue; }
    const [choice] = chunk.choices;
    role ??= choice.delta.role;
    text += choice.delta.content ?? '';
    reason = choice.finish_reason ?? reason;
  }
  assert.equal(role, 'assistant');
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(reason, whole.choices[0].finish_reason);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test('the stream helper', async () => {
  const runner = client.chat.completions.stream({ model, messages, max_tokens: 8, temperature: 0 });
  assert.equal((await runner.finalChatCompletion()).choices[0].message.content, await runner.finalContent());
});

test('completions of texts and tokens, several at once', async () => {
  const one = await client.completions.create({ model, prompt: 'The sea', max_tokens: 8, temperature: 0 });
  assert.equal(one.object, 'text_completion');
  const { body } = await server.json('/tokenize', { prompt: 'The sea' });
  const many = await client.completions.create({ model, prompt: [body.tokens, body.tokens], max_tokens: 8, temperature: 0, n: 2 });
  assert.deepEqual(many.choices.map((choice) => choice.index), [0, 1, 2, 3]);
  for (const choice of many.choices) assert.equal(choice.text, one.choices[0].text);
  assert.equal(many.usage.completion_tokens, 4 * one.usage.completion_tokens);
});

test('seeds', async () => {
  const ask = { model, prompt: 'Once', max_tokens: 12, temperature: 1, n: 2 };
  const texts = async (seed) => (await client.completions.create({ ...ask, seed })).choices.map((choice) => choice.text);
  const first = await texts(7);
  assert.deepEqual(await texts(7), first);
  assert.notEqual(first[0], first[1]);
  assert.notDeepEqual(await texts(8), first);
});

test('log-probabilities of a chat', async () => {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 5, temperature: 0, logprobs: true, top_logprobs: 3 });
  const { content } = answer.choices[0].logprobs;
  assert.equal(content.length, answer.usage.completion_tokens);
  for (const token of content) {
    assert.ok(token.logprob <= 0);
    assert.equal(token.top_logprobs.length, 3);
    assert.equal(token.top_logprobs[0].token, token.token);
    assert.ok(token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob);
    if (!token.token.includes('\uFFFD')) assert.equal(Buffer.from(token.bytes).toString(), token.token);
  }
});

test('log-probabilities of a completion, and of its prompt', async () => {
  const answer = await client.completions.create({ model, prompt: 'The sea is', max_tokens: 3, temperature: 0, logprobs: 2, echo: true });
  const { tokens, token_logprobs: values, top_logprobs: tops, text_offset: offsets } = answer.choices[0].logprobs;
  assert.equal(tokens.length, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer.choices[0].text.startsWith('The sea is'));
  assert.equal(values[0], null);
  assert.ok(values.slice(1).every((value) => value <= 0));
  assert.ok(tops.slice(1).every((top) => Object.keys(top).length >= 2));
  assert.deepEqual([...offsets].sort((a, b) => a - b), offsets);
  // The next token's log-probability in the echo is that of generating it.
  const shorter = await client.completions.create({ model, prompt: 'The sea is', max_tokens: 1, temperature: 0, logprobs: 0 });
  assert.ok(Math.abs(shorter.choices[0].logprobs.token_logprobs[0] - values[answer.usage.prompt_tokens]) < 0.05);
});

test('stop strings, stop tokens and limits', async () => {
  const ask = { model, prompt: 'The sea', max_tokens: 30, temperature: 0 };
  const whole = (await client.completions.create({ ...ask, ignore_eos: true })).choices[0];
  assert.equal(whole.finish_reason, 'length');
  const stop = whole.text.slice(6, 9);
  const cut = (await client.completions.create({ ...ask, stop })).choices[0];
  assert.equal(cut.finish_reason, 'stop');
  assert.equal(cut.text, whole.text.slice(0, whole.text.indexOf(stop)));
});

test('JSON by a schema', async () => {
  const schema = { type: 'object', properties: { name: { type: 'string', maxLength: 8 }, age: { type: 'integer', minimum: 0, maximum: 99 } },
    required: ['name', 'age'], additionalProperties: false };
  const answer = await client.chat.completions.create({ model, messages, temperature: 0,
    response_format: { type: 'json_schema', json_schema: { name: 'person', schema, strict: true } } });
  const value = JSON.parse(answer.choices[0].message.content);
  assert.deepEqual(Object.keys(value).sort(), ['age', 'name']);
  assert.ok(Number.isInteger(value.age));
});

test('errors are the client\'s own', async () => {
  const fails = async (ask, status, code, param) => {
    await assert.rejects(client.chat.completions.create({ model, messages, ...ask }), (error) => {
      assert.equal(error.status, status);
      assert.equal(error.code, code);
      if (param) assert.equal(error.param, param);
      assert.match(error.requestID, /^req_/);
      assert.ok(error.error.message.length > 10);
      return true;
    });
  };
  await fails({ model: 'gpt-9' }, 404, 'model_not_found', 'model');
  await fails({ temperature: -1 }, 400, 'invalid_value', 'temperature');
  await fails({ n: 100000 }, 400, 'invalid_value', 'n');
  await fails({ max_tokens: 5000 }, 400, 'context_length_exceeded', 'messages');
  await fails({ top_logprobs: 2 }, 400, 'invalid_value', 'top_logprobs');
  await fails({ messages: [] }, 400, 'invalid_value', 'messages');
  await fails({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] }, 400, 'unsupported_content');
  await fails({ tools: [{ type: 'function', function: { name: 'f', parameters: {} } }] }, 400, 'tools_not_supported', 'tools');
  await fails({ response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'strung' } } } }, 400, 'grammar_error');
});

test('a client that leaves frees its pages', async () => {
  const used = async () => (await server.json('/v1/ranks')).body.kv.used_pages;
  const controller = new AbortController();
  const stream = await client.chat.completions.create({ model, messages, max_tokens: 1500, stream: true, ignore_eos: true }, { signal: controller.signal });
  await stream[Symbol.asyncIterator]().next();
  assert.ok(await used() > 0);
  controller.abort();
  for (let i = 0; await used() > 0; ++i) { assert.ok(i < 200, 'pages are still used'); await sleep(10); }
});

test('a client that leaves frees its request, streaming or not', async () => {
  const running = async () => (await server.json('/v1/requests')).body.requests;
  for (const stream of [true, false]) {
    const controller = new AbortController();
    const asked = client.chat.completions.create({ model, messages, max_tokens: 1500, stream, ignore_eos: true }, { signal: controller.signal });
    if (stream) await (await asked)[Symbol.asyncIterator]().next();
    while ((await running()).length === 0) await sleep(5);
    controller.abort();
    await asked.catch(() => {});
    for (let i = 0; (await running()).length > 0; ++i) { assert.ok(i < 200, 'still running'); await sleep(10); }
    assert.equal(server.process.exitCode, null);
  }
});

test('cancelled by its id', async () => {
  const stream = await client.chat.completions.create({ model, messages, max_tokens: 1500, stream: true, ignore_eos: true });
  await assert.rejects(async () => {
    for await (const chunk of stream) await fetch(`${server.url}/v1/requests/${chunk.id}`, { method: 'DELETE' });
  }, /cancelled/);
});
