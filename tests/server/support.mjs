// SPDX-License-Identifier: Apache-2.0
// Starts the built program as `shoal serve` on a free port, and asks it over plain sockets and fetch.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const program = process.env.SHOAL_BINARY ?? path.join(root, 'build/dev/shoal');
export const kTiny = 'models/shoal-tiny';
// Four ranks, little memory.
export const kFourRanks = ['--tp', '4', '--ep', '4', '--threads', '1', '--kv-cache-max-tokens', '16384',
  '--max-batch-size', '64', '--max-num-tokens', '512', '--chunked-prefill'];

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Server {
  static async start(flags = kFourRanks, { model = kTiny, ready = true, scheme = 'http' } = {}) {
    const server = new Server();
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SHOAL_')));  // those are settings
    server.process = spawn(program, ['serve', model, '--port', '0', ...flags], { cwd: root, env, stdio: ['ignore', 'ignore', 'pipe'] });
    server.log = '';
    server.ended = new Promise((resolve) => server.process.on('exit', (code, signal) => resolve({ code, signal })));
    server.process.stderr.on('data', (data) => { server.log += data; });
    const line = await server.logged(/listening on \S+:(\d+)/);
    server.port = Number(line[1]);
    server.url = `${scheme}://127.0.0.1:${server.port}`;
    if (ready) await server.becomes(200);
    return server;
  }

  // The first match of the log with the pattern, now or later.
  async logged(pattern, seconds = 120) {
    for (const end = Date.now() + seconds * 1000; ;) {
      const found = this.log.match(pattern);
      if (found) return found;
      if (this.process.exitCode !== null || Date.now() > end) throw new Error(`${pattern} is not in the log:\n${this.log}`);
      await sleep(20);
    }
  }

  // Waits until /health/ready has this status; returns the seconds that took.
  async becomes(status, seconds = 120) {
    const begin = Date.now();
    for (;;) {
      const answer = await fetch(`${this.url}/health/ready`).catch(() => null);
      if (answer?.status === status) return (Date.now() - begin) / 1000;
      if (this.process.exitCode !== null || Date.now() - begin > seconds * 1000) throw new Error(`never ${status}:\n${this.log}`);
      await sleep(20);
    }
  }

  post(route, body, headers = {}, options = {}) {
    return fetch(this.url + route, { method: 'POST', headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body), ...options });
  }
  async json(route, body, headers = {}) {
    const answer = body === undefined ? await fetch(this.url + route, { headers }) : await this.post(route, body, headers);
    return { status: answer.status, headers: answer.headers, body: await answer.json() };
  }

  // What a raw connection gets back until it is closed, or `seconds` have passed.
  raw(bytes, seconds = 10) {
    return new Promise((resolve) => {
      let text = '';
      const socket = net.connect(this.port, '127.0.0.1', () => { if (bytes) socket.write(bytes); });
      const timer = setTimeout(() => socket.destroy(), seconds * 1000);
      socket.on('data', (data) => { text += data; });
      socket.on('error', () => {});
      socket.on('close', () => { clearTimeout(timer); resolve(text); });
    });
  }

  async stop(signal = 'SIGKILL') {
    this.process.kill(signal);
    return this.ended;
  }
}

// The frames' data of an event stream, as text.
export async function frames(answer) {
  const list = [];
  let rest = '';
  const decoder = new TextDecoder();
  for await (const bytes of answer.body) {
    rest += decoder.decode(bytes, { stream: true });
    for (let end; (end = rest.indexOf('\n\n')) >= 0; rest = rest.slice(end + 2)) list.push(rest.slice(0, end));
  }
  if (rest) throw new Error(`the stream ends in the middle of a frame: ${rest}`);
  return list;
}

// OpenAI's client, or null where npm's package is not there.
export async function openai() {
  try {
    const require = createRequire(path.join(root, 'build/openai/package.json'));
    return (await import(require.resolve('openai'))).default;
  } catch {
    return null;
  }
}
