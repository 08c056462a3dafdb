// SPDX-License-Identifier: Apache-2.0
// A server with made-up data for work on the dashboard without a model.
//   node ui/dev/mock_server.mjs [--port 8808] [--layout tiny|pipeline|wide|dense] [--key KEY]
// It serves ui/dist/index.html, the status routes, and a chat that streams a fixed text. Tests start it as a module, and change its state.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { kConfig, World } from './mock_data.mjs';

const kPage = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist', 'index.html');
const kWords = 'A river is water that has found the shortest way it knows to the sea, and takes whatever time the land asks for it.'.split(/(?<= )/);

const json = (reply, status, body) => {
  reply.writeHead(status, { 'content-type': 'application/json' });
  reply.end(JSON.stringify(body));
};
const failure = (reply, status, message, more = {}) => json(reply, status, { error: { message, type: 'error', param: null, code: 'mock', ...more } });

export class Mock {
  constructor({ layout = 'tiny', key = '', seed = 7, tickMs = 1000, page = kPage } = {}) {
    Object.assign(this, { key, page, layout, seed, world: new World(layout, seed), streams: new Set(), progress: null, chatError: null, wordMs: 25, adminOnly: false, requestsSeen: [] });
    this.server = createServer((request, reply) => this.answer(request, reply));
    this.timer = setInterval(() => this.tick(), tickMs);
  }

  listen(port = 0) {
    return new Promise(done => this.server.listen(port, '127.0.0.1', () => done(this.server.address().port)));
  }

  close() {
    clearInterval(this.timer);
    this.cut();
    this.server.closeAllConnections();
    return new Promise(done => this.server.close(done));
  }

  // Ends every event stream, as a restart would.
  cut() {
    for (const stream of this.streams) stream.destroy();
    this.streams.clear();
  }

  say(frame) {
    for (const stream of this.streams) stream.write(`data: ${JSON.stringify(frame)}\n\n`);
  }

  event(kind, text) {
    const event = { t: Date.now() / 1000, kind, text };
    this.world.events.push(event);
    this.say({ type: 'event', event });
  }

  change(change) {
    Object.assign(this.world, change);
    this.say({ type: 'static', static: this.world.about() });
  }

  tick() {
    const before = this.world.events.length;
    this.world.tick(Date.now() / 1000);
    for (const event of this.world.events.slice(before)) this.say({ type: 'event', event });
    this.say({ type: 'point', point: this.world.points[this.world.points.length - 1] });
  }

  answer(request, reply) {
    const path = request.url.split('?')[0];
    this.requestsSeen.push(`${request.method} ${request.url}`);
    if (path === '/') {
      reply.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
      return reply.end(readFileSync(this.page));
    }
    if (path === '/snapshot.json' && this.snapshot) return json(reply, 200, JSON.parse(this.snapshot));
    if (this.key && request.headers.authorization !== `Bearer ${this.key}`) return failure(reply, 401, 'wrong API key');
    if (this.progress !== null) return failure(reply, 503, 'the model is being loaded', { progress: this.progress });
    const routes = {
      '/v1/ranks': () => json(reply, 200, this.world.about()), '/v1/experts': () => json(reply, 200, this.world.expertReport()), '/v1/config': () => json(reply, 200, kConfig),
      '/v1/requests': () => (this.adminOnly ? failure(reply, 403, 'the admin key is needed') : json(reply, 200, this.world.requests())), '/v1/events': () => this.stream(request, reply),
      '/v1/chat/completions': () => this.chat(request, reply),
    };
    if (request.method === 'DELETE' && path.startsWith('/v1/requests/')) return json(reply, 200, { cancelled: true });
    return routes[path] ? routes[path]() : failure(reply, 404, `no route ${path}`);
  }

  stream(request, reply) {
    reply.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    const { points, events } = this.world;
    reply.write(`: ping\n\ndata: ${JSON.stringify({ type: 'history', interval_seconds: 1, points, events, static: this.world.about() })}\n\n`);
    this.streams.add(reply);
    request.on('close', () => this.streams.delete(reply));
  }

  async chat(request, reply) {
    let text = '';
    for await (const piece of request) text += piece;
    this.lastChat = JSON.parse(text);
    if (this.chatError?.before) return failure(reply, 400, this.chatError.message, { hint: this.chatError.hint });
    reply.writeHead(200, { 'content-type': 'text/event-stream' });
    const send = body => reply.write(`data: ${typeof body === 'string' ? body : JSON.stringify(body)}\n\n`);
    const chunk = (delta, finish = null) => ({ object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason: finish }], usage: null });
    send(chunk({ role: 'assistant', content: '' }));
    let sent = 0;
    for (const word of kWords.slice(0, this.lastChat.max_tokens)) {
      await new Promise(done => setTimeout(done, this.wordMs));
      if (reply.destroyed) return (this.cancelled = true);
      if (this.chatError && sent === 5) {
        send({ error: { message: this.chatError.message, type: 'server_error', code: 'rank_lost' } });
        return reply.end('data: [DONE]\n\n');
      }
      send(chunk({ content: word }));
      ++sent;
    }
    send(chunk({}, 'stop'));
    send({ object: 'chat.completion.chunk', choices: [], usage: { prompt_tokens: 12, completion_tokens: sent, total_tokens: 12 + sent } });
    return reply.end('data: [DONE]\n\n');
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const option = (name, fallback) => {
    const at = process.argv.indexOf(`--${name}`);
    return at < 0 ? fallback : process.argv[at + 1];
  };
  const mock = new Mock({ layout: option('layout', 'tiny'), key: option('key', '') });
  console.log(`http://127.0.0.1:${await mock.listen(Number(option('port', 8808)))}/`);
}
