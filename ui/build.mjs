// SPDX-License-Identifier: Apache-2.0
// Builds dist/index.html: one file with its script and style in it, each allowed by its hash and nothing else (Content-Security-Policy).
//   node build.mjs            writes dist/index.html
//   node build.mjs --check    fails if dist/index.html is not what the sources give; exit 77 if esbuild is not installed
//   node build.mjs --watch    writes it again at each change (serve it with `shoal serve --ui-dir ui/dist`)
// The npm packages are looked for in ui/node_modules and, where tools/setup --tests puts them, in build/ui/node_modules.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, watch, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const output = join(here, 'dist', 'index.html');
const folders = [join(here, 'node_modules'), join(here, '..', 'build', 'ui', 'node_modules')].filter(folder => existsSync(join(folder, 'esbuild')));
if (!folders.length) {
  console.error('ui/build.mjs: esbuild is not installed; run tools/setup --tests, or npm install in ui/');
  process.exit(77);
}
const esbuild = createRequire(join(folders[0], 'here.js'))('esbuild');

const hash = text => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
const policy = (script, style) => `default-src 'self'; script-src ${hash(script)}; style-src ${hash(style)}; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'`;

// The text of one entry point with everything that it imports.
async function bundle(entry, loader) {
  const result = await esbuild.build({
    stdin: { contents: entry, resolveDir: join(here, 'src'), loader }, bundle: true, minify: true, write: false, format: 'esm', target: 'es2022', charset: 'utf8',
    legalComments: 'none', nodePaths: folders, mainFields: ['module', 'main'], absWorkingDir: here,
  });
  return result.outputFiles[0].text.trim();
}

async function page() {
  const script = (await bundle("import './main.js';", 'js')).replaceAll('</script', '<\\/script');
  const style = await bundle("@import 'uplot/dist/uPlot.min.css'; @import './style.css';", 'css');
  const template = readFileSync(join(here, 'src', 'index.html'), 'utf8');
  const parts = { '%CSP%': policy(script, style), '%STYLE%': style, '%SCRIPT%': script };
  return template.replace(/%(CSP|STYLE|SCRIPT)%/g, name => parts[name]);
}

async function write() {
  const text = await page();
  mkdirSync(dirname(output), { recursive: true });
  writeFileSync(output, text);
  console.log(`${output}: ${Buffer.byteLength(text)} bytes`);
}

async function check() {
  if (existsSync(output) && readFileSync(output, 'utf8') === await page()) return;
  console.error('ui/dist/index.html is not what the sources give: run node ui/build.mjs and commit the result');
  process.exit(1);
}

if (process.argv.includes('--check')) {
  await check();
} else {
  await write();
  if (process.argv.includes('--watch')) watch(join(here, 'src'), { recursive: true }, () => write().catch(error => console.error(error.message)));
}
