// SPDX-License-Identifier: Apache-2.0
// The dashboard in a browser against a made-up server (ui/dev/mock_server.mjs), where every state can be brought about.
//   node tests/ui/dashboard_test.mjs [WORD...]   only the cases whose names contain a word
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Mock } from '../../ui/dev/mock_server.mjs';
import { closePage, goTo, openBrowser, openPage, runAll, waitForColours, waitForText } from './browser.mjs';

const browser = await openBrowser();
const kViews = ['overview', 'ranks', 'experts', 'performance', 'requests', 'playground', 'config', 'events'];
const kRefused = /Failed to load resource|ERR_/;

// Runs with a mock and a page that is connected to it.
async function withPage(mockOptions, pageOptions, run) {
  const mock = new Mock({ tickMs: 200, ...mockOptions });
  const port = await mock.listen();
  const page = await openPage(browser, `http://127.0.0.1:${port}/${pageOptions.search ?? ''}`, pageOptions);
  try {
    await run({ mock, page, port });
    await closePage(page);
  } finally {
    await mock.close();
  }
}

const live = page => page.waitForSelector('main[data-connection=live]');
const state = (page, pattern) => waitForText(page, '[data-testid=state]', pattern);

async function everyViewShowsData({ page }) {
  await live(page);
  const contents = {
    overview: ['[data-testid=tiles]', /Generated.*tok\/s.*Imbalance\s*\d\.\d\d×/], ranks: ['main', /Ranks4 in all/], experts: ['main', /Expert load.*Copies moved/],
    performance: ['[data-testid=kv-card]', /used by requests\d+ pages/], requests: ['[data-testid=requests-card]', /req_[0-9a-f]+/], playground: ['main', /Say something/],
    config: ['main', /tensor_parallel_size4file/], events: ['main', /rebalance.*max\/mean/],
  };
  for (const view of kViews) {
    await goTo(page, view);
    await waitForText(page, ...contents[view]);
  }
  await goTo(page, 'ranks');
  await waitForColours(page, '[data-testid=rank-grid]', 8);
  await waitForColours(page, '[data-testid=traffic]', 4);
  await goTo(page, 'experts');
  await page.waitForSelector('[data-testid=expert-map]');
  await waitForColours(page, '[data-testid=expert-map]', 20);
  await waitForColours(page, '.plot canvas', 4);
}

async function layoutFits({ page }) {
  await live(page);
  for (const view of kViews) {
    await goTo(page, view);
    await page.waitForTimeout(150);
    const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(content <= width, `${view}: ${content} px in a window of ${width}`);
  }
}

await runAll({
  'every view shows data, light': () => withPage({}, { colorScheme: 'light' }, everyViewShowsData),
  'every view shows data, dark': () => withPage({}, { colorScheme: 'dark' }, everyViewShowsData),
  'nothing is wider than a telephone or a tablet': async () => {
    await withPage({}, { width: 390, height: 844 }, layoutFits);
    await withPage({ layout: 'wide' }, { width: 820, height: 1100 }, layoutFits);
  },

  'figures change while one looks': () => withPage({}, {}, async ({ page }) => {
    await live(page);
    const read = () => page.textContent('.tile .figure');
    const first = await read();
    await page.waitForFunction(before => document.querySelector('.tile .figure').textContent !== before, first);
  }),

  'the colours follow the system, and the choice stays': () => withPage({}, { colorScheme: 'dark' }, async ({ page }) => {
    const theme = () => page.getAttribute('html', 'data-theme');
    assert.equal(await theme(), 'dark');
    await page.emulateMedia({ colorScheme: 'light' });
    await page.waitForSelector('html[data-theme=light]');
    await page.click('button[title="Light or dark"]');
    await page.waitForSelector('html[data-theme=dark]');
    await page.reload();
    await page.waitForSelector('html[data-theme=dark]');
  }),

  '256 ranks and 58 layers of 320 slots are drawn, and reached by keyboard': () => withPage({ layout: 'wide', tickMs: 1000 }, {}, async ({ page }) => {
    await live(page);
    await goTo(page, 'ranks');
    await page.focus('[data-testid=rank-grid]');
    for (const key of ['ArrowRight', 'ArrowRight', 'ArrowDown']) await page.keyboard.press(key);
    await waitForText(page, '[data-testid=rank-detail]', /Rank 17.*dp 0 · tp 17/);
    await page.keyboard.press('Escape');
    await page.waitForSelector('[data-testid=rank-detail]', { state: 'detached' });
    await page.click('button[role=radio]:has-text("Table")');
    assert.equal(await page.locator('tbody tr').count(), 256);
    await goTo(page, 'experts');
    await page.focus('[data-testid=expert-map]');
    for (const key of ['ArrowRight', 'ArrowDown', 'ArrowRight']) await page.keyboard.press(key);
    await waitForText(page, '.expert-map .hint', /layer 4 · slot 1 on EP rank 0/);
  }),

  'a click on a rank of the overview opens it': () => withPage({}, {}, async ({ page }) => {
    await live(page);
    await page.click('[data-testid=rank-grid]', { position: { x: 400, y: 40 } });
    await waitForText(page, '[data-testid=rank-detail]', /Rank 1.*Memory/);
  }),

  'copies of an expert are told with their shares': () => withPage({}, {}, async ({ page, mock }) => {
    await live(page);
    await goTo(page, 'experts');
    const layer = mock.world.experts.replicas[0].layers[0];
    const slot = layer.slots.findIndex((expert, at) => expert >= 0 && layer.slots.lastIndexOf(expert) > at);
    await page.focus('[data-testid=expert-map]');
    for (let at = 0; at <= slot; ++at) await page.keyboard.press('ArrowRight');
    await waitForText(page, '.expert-map .hint', /copies: slot \d+ \(rank \d\), slot \d+ \(rank \d\).*this one takes \d+ %/);
    await page.click('button[role=radio]:has-text("Ranks")');
    const map = '[data-testid=expert-map][aria-label*="layer and rank"]';
    await page.waitForSelector(map);  // until it has a size
    await page.focus(map);
    await page.keyboard.press('ArrowRight');
    await waitForText(page, '.expert-map .hint', /EP rank 0 · .* the mean/);
  }),

  'loading, draining, failure and a lost rank are said': () => withPage({}, { allowed: kRefused }, async ({ page, mock }) => {
    await state(page, /^ready/);
    mock.world.trouble = { rank: 2, state: 'failed' };
    mock.change({});
    await state(page, /degraded.*rank 2 failed/);
    mock.world.trouble = null;
    mock.change({ state: 'draining' });
    await state(page, /draining.*no new requests/);
    mock.change({ state: 'failed' });
    await state(page, /^failed/);
    mock.world.state = 'ready';
    mock.progress = 0.42;
    mock.cut();
    await state(page, /loading 42 %/);
    mock.progress = null;
    await state(page, /^ready/);
  }),

  'a rank that makes no step while others wait is shown as stalled': () => withPage({}, {}, async ({ page, mock }) => {
    await live(page);
    mock.world.trouble = { rank: 1, state: 'ok' };
    await state(page, /degraded.*rank 1 stalled/);
  }),

  'an ended stream is taken up again, and its history is neither lost nor doubled': () => withPage({}, { allowed: kRefused }, async ({ page, mock }) => {
    await live(page);
    await goTo(page, 'events');
    const before = await page.locator('.events li').count();
    mock.cut();
    await page.waitForSelector('main[data-connection=retrying]');
    mock.world.events.push({ t: Date.now() / 1000, kind: 'restart', text: 'while nobody listened' });
    await live(page);
    await waitForText(page, '.events', /while nobody listened/);
    assert.ok(await page.locator('.events li').count() - before <= 2);
  }),

  'a server that goes away and comes back': async () => {
    const mock = new Mock({ tickMs: 200 });
    const port = await mock.listen();
    const page = await openPage(browser, `http://127.0.0.1:${port}/`, { allowed: kRefused });
    await live(page);
    await mock.close();
    await waitForText(page, '.banner', /No connection.*Next try/);
    const second = new Mock({ tickMs: 200 });
    await second.listen(port);
    await page.click('text=Try now').catch(() => {});
    await live(page);
    await closePage(page);
    await second.close();
  },

  'a key is asked for, kept for the tab, and sent': () => withPage({ key: 'secret-key' }, { allowed: kRefused }, async ({ page, mock }) => {
    await waitForText(page, '.banner', /wants an API key/);
    await page.fill('#key', 'wrong');
    await page.click('text=Use it');
    await waitForText(page, '.banner', /not accepted/);
    await page.fill('#key', 'secret-key');
    await page.click('text=Use it');
    await live(page);
    await page.reload();
    await live(page);
    assert.equal(await page.evaluate(() => sessionStorage.getItem('shoal-key')), 'secret-key');
    assert.equal(await page.evaluate(() => JSON.stringify(localStorage)), '{}');
    assert.ok(!mock.requestsSeen.some(line => line.includes('secret-key')), 'the key is in no address');
  }),

  'the list of requests needs the admin key, and cancels': async () => {
    await withPage({}, { allowed: kRefused }, async ({ page, mock }) => {
      mock.adminOnly = true;
      await live(page);
      await goTo(page, 'requests');
      await waitForText(page, '[data-testid=requests-card]', /needs the admin key/);
      mock.adminOnly = false;
      await waitForText(page, '[data-testid=requests-card]', /req_/);
      await page.click('tbody tr:first-child button');
      const cancelled = () => mock.requestsSeen.some(line => line.startsWith('DELETE /v1/requests/req_'));
      for (let waited = 0; !cancelled() && waited < 100; ++waited) await page.waitForTimeout(100);
      assert.ok(cancelled());
    });
  },

  'pause holds the figures, resume catches up': () => withPage({}, {}, async ({ page }) => {
    await live(page);
    await page.click('text=Pause');
    const held = await page.textContent('[data-testid=tiles]');
    await page.waitForTimeout(900);
    assert.equal(await page.textContent('[data-testid=tiles]'), held);
    await page.click('text=Resume');
    await page.waitForFunction(before => document.querySelector('[data-testid=tiles]').textContent !== before, held);
  }),

  'the playground streams, stops, and shows errors': () => withPage({}, { allowed: kRefused }, async ({ page, mock }) => {
    await live(page);
    await goTo(page, 'playground');
    await page.fill('input[name=temperature]', '0.3');
    await page.fill('input[name=seed]', '11');
    await page.fill('#draft', 'What is a river?');
    await page.keyboard.press('Enter');
    await waitForText(page, '.message.assistant', /asks for it\..*first token.*24 tokens.*tok\/s.*stop/);
    const { stream, temperature, max_tokens, seed, messages, model } = mock.lastChat;
    assert.deepEqual({ stream, temperature, max_tokens, seed, model, messages }, { stream: true, temperature: 0.3, max_tokens: 256, seed: 11, model: 'shoal-tiny', messages: [{ role: 'user', content: 'What is a river?' }] });
    mock.wordMs = 1000;
    await page.fill('#draft', 'Again');
    await page.keyboard.press('Enter');
    await waitForText(page, '.message:nth-child(4)', /A river/);
    await page.click('button.stop');
    await waitForText(page, '.message:nth-child(4)', /stopped/);
    for (let waited = 0; !mock.cancelled && waited < 100; ++waited) await page.waitForTimeout(100);
    assert.equal(mock.cancelled, true, 'the server saw the client leave');
    assert.equal(mock.lastChat.messages.length, 3);
    mock.wordMs = 25;
    mock.chatError = { before: true, message: 'the prompt is too long', hint: 'shorten it' };
    await page.click('button:text-is("Again")');
    await waitForText(page, '.message:last-child', /the prompt is too long.*shorten it/);
    mock.chatError = { message: 'rank 3 is lost' };
    await page.click('button:text-is("Again")');
    await waitForText(page, '.message:last-child', /rank 3 is lost.*A river/);
  }),

  'a snapshot is saved, opened from a file and from an address, and refused if it is none': () => withPage({}, { allowed: kRefused }, async ({ page, port, mock }) => {
    const folder = mkdtempSync(join(tmpdir(), 'shoal-ui-'));
    await live(page);
    await goTo(page, 'experts');
    await page.waitForSelector('[data-testid=expert-map]');
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('text=Save snapshot')]);
    const path = join(folder, download.suggestedFilename());
    await download.saveAs(path);
    const saved = JSON.parse(readFileSync(path, 'utf8'));
    assert.equal(saved.ranks.ranks.length, 4);
    assert.ok(saved.points.length >= 600 && saved.experts.replicas.length === 1 && saved.config && saved.events.length);
    await page.setInputFiles('input[type=file]', path);
    await waitForText(page, '.banner', /A snapshot saved.*nothing here is live/);
    for (const view of kViews) await goTo(page, view);
    const streams = mock.streams.size;
    await page.click('text=Back to live');
    await live(page);
    assert.ok(mock.streams.size <= streams + 1);
    writeFileSync(path, '{"some": "file"}');
    await page.setInputFiles('input[type=file]', path);
    await waitForText(page, '.banner', /not a snapshot of this page/);
    mock.snapshot = JSON.stringify(saved);
    await page.goto(`http://127.0.0.1:${port}/?file=/snapshot.json`);
    await page.waitForSelector('main[data-connection=snapshot]');
    await waitForText(page, 'h1', /shoal-tiny/);
    rmSync(folder, { recursive: true });
  }),

  'text from the server is text': () => withPage({}, {}, async ({ page, mock }) => {
    await live(page);
    const hostile = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>';
    mock.world.shape = { ...mock.world.shape, model: hostile };
    mock.change({});
    mock.event('error', hostile);
    await waitForText(page, 'h1', /<img src=x/);
    await goTo(page, 'events');
    await waitForText(page, '.events', /<script>/);
    assert.equal(await page.evaluate(() => window.broken), undefined);
    await page.evaluate(() => { const script = document.createElement('script'); script.textContent = 'window.broken=2'; try { document.body.append(script); } catch { /* refused */ } });
    assert.equal(await page.evaluate(() => window.broken), undefined, 'the policy refuses scripts that are not ours');
    page.problems = page.problems.filter(text => !/Content Security Policy/.test(text));
  }),

  'frames that are unknown or broken change nothing': () => withPage({}, {}, async ({ page, mock }) => {
    await live(page);
    for (const stream of mock.streams) stream.write('data: {broken\n\ndata: {"type":"tomorrow"}\n\ndata: 7\n\n: ping\n\n');
    mock.event('ready', 'still here');
    await goTo(page, 'events');
    await waitForText(page, '.events', /still here/);
  }),

  'a dense model on two ranks': () => withPage({ layout: 'dense' }, {}, async ({ page }) => {
    await live(page);
    await waitForText(page, '[data-testid=tiles]', /no experts spread/);
    await goTo(page, 'experts');
    await waitForText(page, 'main', /This model has no experts/);
  }),

  'a pipeline of two stages and replicas': () => withPage({ layout: 'pipeline' }, {}, async ({ page }) => {
    await live(page);
    await goTo(page, 'ranks');
    await page.focus('[data-testid=rank-grid]');
    await page.keyboard.press('ArrowDown');
    await waitForText(page, '[data-testid=rank-detail]', /dp 0 · stage 0 · tp 0 · ep 0.*stage wait8\.0 %/);
    await goTo(page, 'experts');
    await page.click('button[role=radio]:has-text("dp 1")');
  }),

  'everything that can be pressed has a name, and every drawing a description': () => withPage({}, {}, async ({ page }) => {
    await live(page);
    for (const view of kViews) {
      await goTo(page, view);
      const nameless = await page.$$eval('button, a, input, textarea, canvas[role=img], [role=img]', list => list.filter(one => one.getClientRects().length)
        .filter(one => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length || one.title)).map(one => one.outerHTML.slice(0, 120)));
      assert.deepEqual(nameless, [], view);
    }
    await page.goto(page.url().split('#')[0]);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the view');
  }),
});
await browser.close();
