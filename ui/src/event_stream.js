// SPDX-License-Identifier: Apache-2.0
// text/event-stream read through fetch, which can send an Authorization header (EventSource cannot). Only `data:` lines matter here;
// comments such as ": ping" keep a connection alive and carry nothing.

// Takes text in any pieces, gives the data of each finished frame.
export function frameReader() {
  let rest = '';
  let data = [];
  return piece => {
    const frames = [];
    const lines = (rest + piece).split('\n');
    rest = lines.pop();
    for (let line of lines) {
      if (line.endsWith('\r')) line = line.slice(0, -1);
      if (line === '') {
        if (data.length) frames.push(data.join('\n'));
        data = [];
      } else if (line.startsWith('data:')) {
        data.push(line.slice(line[5] === ' ' ? 6 : 5));
      }
    }
    return frames;
  };
}

// Calls onFrame(text) for each frame of a response until it ends. `onBytes` hears of every piece, pings included.
export async function readFrames(response, onFrame, onBytes = () => {}) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const frames = frameReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onBytes();
    for (const frame of frames(decoder.decode(value, { stream: true }))) onFrame(frame);
  }
}
