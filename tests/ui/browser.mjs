// SPDX-License-Identifier: Apache-2.0
// Headless Chromium for the dashboard's tests. Every page notes console errors, uncaught errors, and requests to any other host: none may
// come in any test. Exit 77 (skipped, aloud) where Chromium or playwright-core is missing; tools/setup --tests brings both.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const kRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

function skip(reason) {
  console.log(`SKIPPED: ${reason}; run tools/setup --tests`);
  process.exit(77);
}

function playwright() {
  for (const folder of ['ui/node_modules', 'build/ui/node_modules']) {
    if (existsSync(join(kRoot, folder, 'playwright-core'))) return createRequire(join(kRoot, folder, 'here.js'))('playwright-core');
  }
  return skip('playwright-core is not installed');
}

export async function openBrowser() {
  const { chromium } = playwright();
  const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
  if (!executablePath) skip('Chromium is not installed');
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
}

// options: colorScheme, width, height, allowed: what of the console is expected (a RegExp)
export async function openPage(browser, address, { colorScheme = 'light', width = 1400, height = 950, allowed = null } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  page.setDefaultTimeout(120000);  // for a machine that does much else
  page.problems = [];
  const note = text => {
    if (!allowed?.test(text)) page.problems.push(text);
  };
  page.on('console', message => {
    if (['error', 'warning'].includes(message.type())) note(`console ${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', error => note(`uncaught: ${error.stack}`));
  page.on('request', request => {
    const url = new URL(request.url());
    if (!['data:', 'blob:'].includes(url.protocol) && url.host !== new URL(address).host) note(`request to another host: ${request.url()}`);
  });
  await page.goto(address);
  return page;
}

export async function closePage(page) {
  assert.deepEqual(page.problems, []);
  await page.context().close();
}

export const goTo = async (page, view) => {
  await page.click(`nav a[href="#/${view}"]`);
  await page.waitForSelector(`main[data-view=${view}]`);
};

export async function waitForText(page, selector, pattern) {
  const read = where => document.querySelector(where)?.textContent ?? '';
  try {
    await page.waitForFunction(([where, source]) => new RegExp(source, 's').test(document.querySelector(where)?.textContent ?? ''), [selector, pattern.source]);
  } catch (error) {
    const [there, all] = [await page.evaluate(read, selector), await page.evaluate(read, 'main')];
    throw new Error(`${selector} never matched ${pattern}; it holds "${there}", and the view "${all}"; ${error.message}`);
  }
}

// Waits until a canvas shows more than so many colours: one means that nothing was drawn.
export const waitForColours = (page, selector, least) => page.waitForFunction(([where, most]) => {
  const canvas = document.querySelector(where);
  if (!canvas?.width || !canvas.height) return false;
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  for (let at = 0; at < data.length; at += 4 * 7) seen.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
  return seen.size > most;
}, [selector, least], { polling: 100 });

// Runs the cases one after another; all run, and the process fails if one failed.
export async function runAll(cases) {
  const wanted = process.argv.slice(2);
  let failed = 0;
  for (const [name, run] of Object.entries(cases)) {
    if (wanted.length && !wanted.some(word => name.includes(word))) continue;
    try {
      await run();
      console.log(`ok      ${name}`);
    } catch (error) {
      ++failed;
      console.log(`FAILED  ${name}\n${error.stack}`);
    }
  }
  console.log(failed ? `${failed} failed` : 'all passed');
  process.exitCode = failed ? 1 : 0;
}
