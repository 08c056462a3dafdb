// SPDX-License-Identifier: Apache-2.0
// All that the page shows, as one JSON file for a bug report, and back. Prompts and answers are never part of it.
import { batch } from '@preact/signals';
import { config, connection, events, experts, points, requestList, resetData, server } from './store.js';
import { pollConfig, pollExperts, pollRequests, pollServer, start, stop } from './feed.js';

const kFormat = 1;

export async function saveSnapshot() {
  await Promise.all([pollServer(), pollExperts(), pollConfig(), pollRequests()]);
  const snapshot = {
    shoal_snapshot: kFormat,
    saved_at: Date.now() / 1000,
    ranks: server.value,
    experts: experts.value,
    config: config.value,
    requests: requestList.value?.denied ? null : requestList.value,
    points: points.value,
    events: events.value,
  };
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([JSON.stringify(snapshot)], { type: 'application/json' }));
  link.download = `shoal-snapshot-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Throws an Error that says what is wrong with the text.
export function showSnapshot(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch (error) {
    throw new Error(`This file is not JSON: ${error.message}`);
  }
  if (file?.shoal_snapshot !== kFormat) {
    throw new Error(file?.shoal_snapshot ? `This snapshot has format ${file.shoal_snapshot}; this page reads format ${kFormat}.`
      : 'This file is not a snapshot of this page.');
  }
  stop();
  batch(() => {
    resetData();
    server.value = file.ranks ?? null;
    experts.value = file.experts ?? null;
    config.value = file.config ?? null;
    requestList.value = file.requests ?? null;
    points.value = Array.isArray(file.points) ? file.points : [];
    events.value = Array.isArray(file.events) ? file.events : [];
    connection.value = { state: 'snapshot', savedAt: file.saved_at };
  });
}

export async function fetchSnapshot(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  showSnapshot(await response.text());
}

export function backToLive() {
  resetData();
  start();
}
