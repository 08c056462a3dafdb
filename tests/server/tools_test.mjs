// SPDX-License-Identifier: Apache-2.0
// Tool calls through OpenAI's official client: shoal-tiny with a chat template that knows tools, in Hermes's markup. The model has never seen
// one, so calls are asked for with tool_choice, which holds it to them. It draws as many blanks between the parts of a call as the grammar allows:
// no ask for a call sets max_tokens.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { Server, kFourRanks, kTiny, openai, root } from './support.mjs';

const OpenAI = await openai();
if (!OpenAI) {
  console.log("SKIPPED: the npm package openai is not in build/openai; run tools/setup --tests with a network");
  process.exit(77);
}

const kTemplate = `{{ bos_token }}{% if tools %}<|system|>Answer with <tool_call>{"name": ..., "arguments": ...}</tool_call> of
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|end|>{% endif %}{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}{% for call in m.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}`;

// The model's files, but for the template.
function modelWithTools(folder) {
  for (const name of readdirSync(path.join(root, kTiny)))
    if (name !== 'tokenizer_config.json') symlinkSync(path.join(root, kTiny, name), path.join(folder, name));
  const config = JSON.parse(readFileSync(path.join(root, kTiny, 'tokenizer_config.json')));
  writeFileSync(path.join(folder, 'tokenizer_config.json'), JSON.stringify({ ...config, chat_template: kTemplate }));
}

const weather = { type: 'function', function: { name: 'get_weather', description: 'The weather of a city',
  parameters: { type: 'object', properties: { city: { type: 'string', maxLength: 12 }, unit: { enum: ['celsius', 'kelvin'] } }, required: ['city', 'unit'], additionalProperties: false } } };
const clock = { type: 'function', function: { name: 'get_time', parameters: { type: 'object', properties: { zone: { enum: ['UTC', 'CET'] } }, required: ['zone'], additionalProperties: false } } };
const messages = [{ role: 'user', content: 'What is the weather in Paris?' }];
const model = 'tiny';
const folder = mkdtempSync(path.join(os.tmpdir(), 'shoal-tools-'));
let server, client;

before(async () => {
  modelWithTools(folder);
  server = await Server.start([...kFourRanks, '--served-model-name', model], { model: folder });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
after(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true });
});

function checkWeather(call) {
  assert.equal(call.type, 'function');
  assert.equal(call.function.name, 'get_weather');
  const { city, unit } = JSON.parse(call.function.arguments);
  assert.ok(typeof city === 'string' && city.length <= 12);
  assert.ok(['celsius', 'kelvin'].includes(unit));
}

test('a call is asked for by name', async () => {
  const answer = await client.chat.completions.create({ model, messages, tools: [weather, clock], tool_choice: { type: 'function', function: { name: 'get_weather' } } });
  const [choice] = answer.choices;
  assert.equal(choice.message.role, 'assistant');
  assert.ok(choice.message.tool_calls.length >= 1);
  choice.message.tool_calls.forEach(checkWeather);
  assert.equal(new Set(choice.message.tool_calls.map((call) => call.id)).size, choice.message.tool_calls.length);
});

test('required means some call, and without parallel ones a single one', async () => {
  const answer = await client.chat.completions.create({ model, messages, tools: [weather, clock], tool_choice: 'required', parallel_tool_calls: false });
  const [choice] = answer.choices;
  assert.equal(choice.finish_reason, 'tool_calls');
  assert.equal(choice.message.tool_calls.length, 1);
  assert.ok(['get_weather', 'get_time'].includes(choice.message.tool_calls[0].function.name));
  assert.ok(!choice.message.content);
});

test('a stream tells the same call in pieces', async () => {
  const ask = { model, messages, tools: [weather], tool_choice: 'required', parallel_tool_calls: false, temperature: 0 };
  const whole = (await client.chat.completions.create(ask)).choices[0];
  const calls = [];
  let reason, pieces = 0;
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
    for (const delta of chunk.choices[0]?.delta.tool_calls ?? []) {
      const call = calls[delta.index] ??= { id: '', name: '', arguments: '' };
      call.id += delta.id ?? '';
      call.name += delta.function.name ?? '';
      call.arguments += delta.function.arguments ?? '';
      ++pieces;
    }
    reason = chunk.choices[0]?.finish_reason ?? reason;
  }
  assert.equal(reason, 'tool_calls');
  assert.equal(calls.length, 1);
  assert.ok(calls[0].id.length > 4 && pieces > 2);
  assert.deepEqual([calls[0].name, calls[0].arguments], [whole.message.tool_calls[0].function.name, whole.message.tool_calls[0].function.arguments]);
});

test('the client\'s own stream helper and tool runner understand it', async () => {
  const tools = [weather];
  const stream = client.chat.completions.stream({ model, messages, tools, tool_choice: 'required', parallel_tool_calls: false });
  checkWeather((await stream.finalChatCompletion()).choices[0].message.tool_calls[0]);
  const seen = [];
  const run = client.chat.completions.runTools({ model, messages, parallel_tool_calls: false, tool_choice: { type: 'function', function: { name: 'get_weather' } },
    tools: [{ type: 'function', function: { ...weather.function, parse: JSON.parse, function: (given) => { seen.push(given.city); return 'sunny'; } } }] }, { maxChatCompletions: 1 });
  await run.done();
  assert.equal(seen.length, 1);
});

test('the answer of a tool goes back into the chat', async () => {
  const call = { id: 'call_1', type: 'function', function: { name: 'get_weather', arguments: '{"city":"Paris","unit":"celsius"}' } };
  const history = [...messages, { role: 'assistant', content: null, tool_calls: [call] }, { role: 'tool', tool_call_id: 'call_1', content: '21' }];
  const answer = await client.chat.completions.create({ model, messages: history, tools: [weather], tool_choice: 'none', max_tokens: 16 });
  assert.equal(answer.choices[0].message.tool_calls, undefined);
  const { body } = await server.json('/apply-template', { messages: history, tools: [weather] });
  assert.match(body.prompt, /"name": "get_weather", "arguments": \{"city": "Paris", "unit": "celsius"\}\}\n<\/tool_call><\|end\|><\|tool\|>21/);
});

test('wrong tools are refused', async () => {
  const fails = (ask, param) => assert.rejects(client.chat.completions.create({ model, messages, tools: [weather], ...ask }), (error) => {
    assert.equal(error.status, 400);
    assert.match(error.param ?? '', param);
    return true;
  });
  await fails({ tool_choice: { type: 'function', function: { name: 'nothing' } } }, /^tool_choice/);
  await fails({ tool_choice: 'sometimes' }, /^tool_choice/);
  await fails({ tools: [], tool_choice: 'required' }, /^tool/);
  await fails({ tools: [{ type: 'function', function: { name: 'x', parameters: { type: 'strung' } } }], tool_choice: 'required' }, /tools/);
  for (const tool of [5, {}, { type: 'function' }, { type: 'function', function: { name: '' } }]) await fails({ tools: [weather, tool] }, /^tools\[1\]/);
});
