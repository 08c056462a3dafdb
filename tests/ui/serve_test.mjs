// SPDX-License-Identifier: Apache-2.0
// The dashboard in a browser against a real server of four ranks under load: every view shows what the server does at that moment, in both
// colour schemes, with no console errors and no request to another host.
//   node tests/ui/serve_test.mjs build/dev/shoal [WORD...]    SCREENSHOTS=DIR keeps a picture of every view
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { closePage, goTo, kRoot, openBrowser, openPage, runAll, waitForColours, waitForText } from './browser.mjs';

const binary = process.argv[2];
process.argv.splice(2, 1);
assert.ok(binary, 'usage: serve_test.mjs PROGRAM [WORD...]');
const browser = await openBrowser();
const pictures = process.env.SCREENSHOTS;
if (pictures) mkdirSync(pictures, { recursive: true });

const kPort = 20000 + (process.pid % 20000);
const kAddress = `http://127.0.0.1:${kPort}`;

async function startServer(...flags) {
  const server = spawn(binary, ['serve', 'models/shoal-tiny', '--config', 'examples/wide_ep.yaml', '--host', '127.0.0.1', '--port', String(kPort), ...flags], { cwd: kRoot });
  setPriority(server.pid, 10);  // it takes all cores, and the browser must get its turn
  let log = '';
  for (const pipe of [server.stdout, server.stderr]) pipe.on('data', data => { log += data; });
  const ended = new Promise(done => server.on('exit', done));
  for (let tries = 0; tries < 600; ++tries) {
    if (server.exitCode !== null) throw new Error(`the server ended with ${server.exitCode}:\n${log}`);
    const reply = await fetch(`${kAddress}/health/ready`).catch(() => null);
    if (reply?.ok) return { server, ended, log: () => log };
    await new Promise(done => setTimeout(done, 200));
  }
  server.kill('SIGKILL');
  throw new Error(`the server is not ready:\n${log}`);
}

async function stopServer({ server, ended }) {
  server.kill('SIGTERM');
  setTimeout(() => server.kill('SIGKILL'), 20000).unref();
  await ended;
}

// Keeps so many requests going until it is told to stop. Returns how many were answered.
function load(streams, headers = {}) {
  const state = { going: true, answered: 0, failed: '' };
  const one = async index => {
    for (let turn = 0; state.going; ++turn) {
      const body = { model: 'shoal-tiny', prompt: `The river ${index} ${turn % 3}`, max_tokens: 40, temperature: 0.8, ignore_eos: true };
      try {
        const reply = await fetch(`${kAddress}/v1/completions`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
        const text = await reply.text();
        if (reply.ok) ++state.answered; else state.failed = text;
      } catch (error) {
        if (state.going) state.failed = error.message;
      }
    }
  };
  const all = Promise.all(Array.from({ length: streams }, (_, index) => one(index)));
  state.stop = () => {
    state.going = false;
    return all;
  };
  return state;
}

// Waits until a tile has such a figure: one is there once the server has seen what it tells of.
const waitForFigure = (page, title, pattern) => page.waitForFunction(([wanted, source]) => {
  const tile = [...document.querySelectorAll('.tile')].find(one => one.querySelector('h2').textContent === wanted);
  return new RegExp(source).test(tile?.querySelector('b').textContent);
}, [title, pattern.source]);
const picture = async (page, view, scheme) => pictures && page.screenshot({ path: join(pictures, `${view}-${scheme}.png`), fullPage: true });

async function everyView(scheme) {
  const page = await openPage(browser, `${kAddress}/`, { colorScheme: scheme });
  await page.waitForSelector('main[data-connection=live]');
  await waitForText(page, '[data-testid=state]', /^ready/);
  await waitForText(page, 'h1', /shoal-tiny/);
  const figures = { 'Generated': /^[1-9]/, 'Requests': /^[1-9]/, 'First token': / m?s$/, 'Between tokens': / m?s$/, 'KV cache': / %$/, 'Imbalance': /^\d+\.\d\d×$/ };
  for (const [title, pattern] of Object.entries(figures)) await waitForFigure(page, title, pattern);
  await picture(page, 'overview', scheme);

  await goTo(page, 'ranks');
  await waitForText(page, 'main', /Ranks4 in all/);
  await page.focus('[data-testid=rank-grid]');
  await page.keyboard.press('ArrowRight');
  await waitForText(page, '[data-testid=rank-detail]', /Rank 0.*compute[1-9].* %.*experts\d.*iB.*Steps[1-9]/);
  await waitForColours(page, '[data-testid=rank-grid]', 8);
  await waitForText(page, '[data-testid=traffic-card]', /Rows send|Not counted/);
  await picture(page, 'ranks', scheme);

  await goTo(page, 'experts');
  await page.waitForSelector('[data-testid=expert-map]');
  await waitForText(page, 'main', /Experts32.*Slots\d+ on 4 EP ranks/);
  await page.focus('[data-testid=expert-map]');
  await page.keyboard.press('ArrowRight');
  await waitForText(page, '.expert-map .hint', /layer \d+ · slot 0 on EP rank 0 · expert \d+ · [\d.,k]+ tokens/);
  await waitForColours(page, '[data-testid=expert-map]', 20);
  await picture(page, 'experts', scheme);

  await goTo(page, 'performance');
  await waitForText(page, '[data-testid=kv-card]', /used by requests[1-9]\d* pages/);
  await picture(page, 'performance', scheme);

  await goTo(page, 'requests');
  await waitForText(page, '[data-testid=requests-card]', /(decode|prefill).*\d+ \/ 40/);
  await picture(page, 'requests', scheme);

  await goTo(page, 'playground');
  await page.fill('input[name=max_tokens]', '24');
  await page.fill('input[name=temperature]', '0');  // else the answer may be no token long
  await page.fill('#draft', 'What is a river?');
  await page.keyboard.press('Enter');
  await waitForText(page, '.message.assistant .timing', /first token [\d.]+ m?s\d+ tokens[\d.,–]+ tok\/s(stop|length)/);
  await picture(page, 'playground', scheme);

  await goTo(page, 'config');
  await waitForText(page, 'main', /moe_expert_parallel_size4/);
  await picture(page, 'config', scheme);

  await goTo(page, 'events');
  await waitForText(page, '.events', /ready/);
  await picture(page, 'events', scheme);
  await closePage(page);
}

await runAll({
  'every view shows live data from four ranks under load': async () => {
    const server = await startServer();
    const work = load(12);
    try {
      await everyView('light');
      await everyView('dark');
      await work.stop();
      assert.equal(work.failed, '');
      assert.ok(work.answered > 0);
    } finally {
      await work.stop();
      await stopServer(server);
    }
  },

  'the page is sent compressed, once, and says what it may load': async () => {
    const server = await startServer();
    try {
      const first = await fetch(`${kAddress}/`, { headers: { 'accept-encoding': 'gzip' } });
      assert.equal(first.headers.get('content-encoding'), 'gzip');
      assert.match(first.headers.get('content-security-policy'), /^default-src 'self'; script-src 'sha256-.*frame-ancestors 'none'$/);
      assert.match(await first.text(), /^<!doctype html>/);
      const again = await fetch(`${kAddress}/`, { headers: { 'accept-encoding': 'gzip', 'if-none-match': first.headers.get('etag') } });
      assert.equal(again.status, 304);
      const plain = await fetch(`${kAddress}/`, { headers: { 'accept-encoding': 'identity' } });
      assert.equal(plain.headers.get('content-encoding'), null);
      assert.match(await plain.text(), /<\/html>\s*$/);
    } finally {
      await stopServer(server);
    }
  },

  'with a key set the page asks for it, and then shows data': async () => {
    const server = await startServer('--api-key', 'ui-test-key');
    try {
      const page = await openPage(browser, `${kAddress}/`, { allowed: /Failed to load resource/ });
      await waitForText(page, '.banner', /wants an API key/);
      await page.fill('#key', 'ui-test-key');
      await page.click('text=Use it');
      await page.waitForSelector('main[data-connection=live]');
      await waitForText(page, 'h1', /shoal-tiny/);
      await closePage(page);
    } finally {
      await stopServer(server);
    }
  },
});
await browser.close();
