// SPDX-License-Identifier: Apache-2.0
// A made-up server's state, consistent in itself: ranks share the tokens that the points report, slots hold what the experts' counts say,
// and a rebalance is followed by less imbalance. Deterministic for a seed, so that pictures can be compared.

export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

// Layouts by name: sizes of the world, and the shape of the model.
export const kLayouts = {
  tiny: { model: 'shoal-tiny', layout: 'tp4·ep4·adp4', sizes: { dp: 1, pp: 1, cp: 1, tp: 4, attention_dp: 4, moe_tp: 1, moe_ep: 4 }, layers: 8, firstMoe: 1, experts: 32, slots: 40, hosts: 1 },
  pipeline: { model: 'shoal-tiny', layout: 'dp2·pp2·tp4·ep4', sizes: { dp: 2, pp: 2, cp: 1, tp: 4, attention_dp: 1, moe_tp: 1, moe_ep: 4 }, layers: 8, firstMoe: 1, experts: 32, slots: 40, hosts: 2 },
  wide: { model: 'DeepSeek-V3', layout: 'dp4·tp64·ep64·adp64', sizes: { dp: 4, pp: 1, cp: 1, tp: 64, attention_dp: 64, moe_tp: 1, moe_ep: 64 }, layers: 61, firstMoe: 3, experts: 256, slots: 320, hosts: 32 },
  dense: { model: 'llama-tiny', layout: 'tp2', sizes: { dp: 1, pp: 1, cp: 1, tp: 2, attention_dp: 1, moe_tp: 1, moe_ep: 1 }, layers: 4, firstMoe: 4, experts: 0, slots: 0, hosts: 1 },
};

function makeRanks({ sizes, layers, hosts, experts, slots }) {
  const perStage = sizes.cp * sizes.tp;
  const world = sizes.dp * sizes.pp * perStage;
  return Array.from({ length: world }, (_, rank) => {
    const tp = rank % sizes.tp;
    const pp = Math.floor(rank / perStage) % sizes.pp;
    const span = layers / sizes.pp;
    return {
      rank, host: hosts > 1 ? `node-${Math.floor((rank * hosts) / world)}` : 'local', dp: Math.floor(rank / (perStage * sizes.pp)), pp, cp: Math.floor(rank / sizes.tp) % sizes.cp, tp,
      attn_dp: sizes.attention_dp > 1 ? tp : 0, moe_tp: 0, moe_ep: sizes.moe_ep > 1 ? tp % sizes.moe_ep : 0, layers: [pp * span, (pp + 1) * span - 1], heads: 4, kv_heads: 2, state: 'ok',
      steps: 0, tokens: 0, compute_seconds: 0, communication_seconds: 0, stage_seconds: 0, idle_seconds: 0, bubble: 0, last_step_age_seconds: 0.02, bytes_sent: 0,
      weight_bytes: 9.4e6, expert_bytes: experts ? 6.1e6 : 0, kv_bytes: 2.1e6, activation_bytes: 1.3e6 * (1 + (rank % 3) * 0.1), slots_per_layer: experts ? slots / sizes.moe_ep : 0,
    };
  });
}

function makePlacement(experts, slots, ranks, rand) {
  const copies = Array.from({ length: experts }, (_, expert) => expert);
  while (copies.length < slots) copies.push(Math.floor(rand() ** 2 * experts));
  if (slots > experts + 2) copies[slots - 1] = -1;
  const order = copies.map(value => [rand(), value]).sort((a, b) => a[0] - b[0]).map(pair => pair[1]);
  const rankOf = slot => Math.floor(slot / (slots / ranks));
  const holds = (rank, expert) => order.some((other, slot) => other === expert && rankOf(slot) === rank);
  order.forEach((expert, slot) => {  // no rank holds an expert twice
    if (order.findIndex((other, at) => other === expert && rankOf(at) === rankOf(slot)) === slot) return;
    const partner = order.findIndex((other, at) => rankOf(at) !== rankOf(slot) && !holds(rankOf(at), expert) && !holds(rankOf(slot), other));
    if (partner >= 0) [order[slot], order[partner]] = [order[partner], expert];
  });
  return order;
}

export class World {
  constructor(name, seed = 7) {
    this.shape = kLayouts[name];
    this.rand = random(seed);
    this.state = 'ready';
    this.begun = Date.now() / 1000 - 3700;
    this.ranks = makeRanks(this.shape);
    this.traffic = this.ranks.map(from => this.ranks.map(to => (from.rank === to.rank || from.dp !== to.dp ? 0 : 1e6 * (0.5 + this.rand()))));
    this.experts = this.shape.experts ? this.makeExperts() : { experts: 0, replicas: [] };
    this.points = [];
    this.events = [];
    this.moves = { layers: 0, copies: 0, bytes: 0 };
    this.skew = 1.4;
    this.trouble = null;  // {rank, state}
    const now = Math.floor(Date.now() / 1000);
    this.events.push({ t: now - 3700, kind: 'loading', text: `loading ${this.shape.model}` }, { t: now - 3680, kind: 'ready', text: 'the model is loaded: 4 ranks in 20.1 s' });
    for (let t = now - 600; t < now; ++t) this.tick(t);
  }

  makeExperts() {
    const { sizes, experts, slots, layers, firstMoe } = this.shape;
    const layer = index => ({ layer: index, slots: makePlacement(experts, slots, sizes.moe_ep, this.rand), expert_tokens: Array.from({ length: experts }, () => Math.round(40 + 900 * this.rand() ** 3)) });
    const replicas = Array.from({ length: sizes.dp }, (_, dp) => ({
      dp, layers: Array.from({ length: layers - firstMoe }, (_, index) => layer(firstMoe + index)), max_over_mean: { worst: 1, mean: 1 }, plans: 0, moves: { layers: 0, copies: 0, bytes: 0 },
      longest_wait_ms: 0.42, planning_seconds: 0.03, online: true,
    }));
    const result = { experts, ep_size: sizes.moe_ep, slots, replicas };
    for (const replica of replicas) for (const one of replica.layers) this.countRanks(one, result);
    return result;
  }

  countRanks(layer, { ep_size: ranks, slots }) {
    const copies = new Map();
    for (const expert of layer.slots) if (expert >= 0) copies.set(expert, (copies.get(expert) ?? 0) + 1);
    layer.rank_tokens = Array.from({ length: ranks }, () => 0);
    layer.slots.forEach((expert, slot) => {
      if (expert >= 0) layer.rank_tokens[Math.floor(slot / (slots / ranks))] += layer.expert_tokens[expert] / copies.get(expert);
    });
    layer.rank_tokens = layer.rank_tokens.map(Math.round);
    layer.max_over_mean = (Math.max(...layer.rank_tokens) * ranks) / layer.rank_tokens.reduce((sum, value) => sum + value, 0);
  }

  tick(t) {
    const wave = 0.6 + 0.4 * Math.sin(t / 47) + 0.15 * (this.rand() - 0.5);
    const generated = this.state === 'ready' ? Math.max(0, 420 * wave * Math.sqrt(this.ranks.length / 4)) : 0;
    this.skew += 0.004 + 0.02 * (this.rand() - 0.5);
    const rebalanced = this.shape.experts > 0 && this.skew > 1.75;
    if (rebalanced) this.rebalance(t);
    const jitter = base => base * (0.85 + 0.3 * this.rand());
    const quantiles = base => (generated > 0 ? { p50: jitter(base), p90: jitter(base * 1.7), p99: jitter(base * 2.6) } : null);
    const waiting = Math.max(0, Math.round(14 * (wave - 0.75)));
    this.points.push({
      t, state: this.state, running: Math.round(22 * wave), waiting, oldest_waiting_seconds: waiting ? waiting * 0.21 : 0, prompt_tokens_per_second: jitter(generated * 2.3), generated_tokens_per_second: generated,
      requests_per_second: generated / 48, ttft_ms: quantiles(64), itl_ms: quantiles(19), e2e_ms: quantiles(1310), kv_used: 0.34 + 0.2 * wave, kv_cached: 0.21, kv_hit: 0.47 + 0.05 * Math.sin(t / 90),
      preemptions: 0, imbalance: this.shape.experts && generated > 0 ? { worst: this.skew, mean: 1 + (this.skew - 1) * 0.4 } : null, moved_bytes: rebalanced ? 4.7e6 : 0, moved_copies: rebalanced ? 9 : 0,
      stall_ms: rebalanced ? 0.38 : 0, queue_refusals: 0, ranks: this.ranks.map(rank => this.rankRow(rank, generated)),
    });
    if (this.points.length > 600) this.points.shift();
    return rebalanced;
  }

  rankRow(rank, generated) {
    const late = this.trouble?.rank === rank.rank;
    const busy = generated > 0 && !late ? 1 : 0;
    const compute = busy * (0.52 + 0.1 * Math.sin(rank.rank * 2.1) + 0.03 * this.rand());
    const communication = busy * (0.2 + 0.08 * Math.cos(rank.rank) + 0.02 * this.rand());
    const stage = busy && this.shape.sizes.pp > 1 ? 0.08 : 0;
    const speed = busy * (generated / this.ranks.length) * (0.9 + 0.2 * this.rand());
    rank.last_step_age_seconds = late ? rank.last_step_age_seconds + 1 : 0.02 + 0.05 * this.rand();
    rank.compute_seconds += compute;
    rank.communication_seconds += communication;
    rank.stage_seconds += stage;
    rank.idle_seconds += 1 - compute - communication - stage;
    rank.steps += busy * 40;
    rank.tokens += Math.round(speed);
    rank.bytes_sent += busy * 3.1e6;
    return [compute, communication, stage, 1 - compute - communication - stage, speed, rank.last_step_age_seconds].map(value => Math.round(value * 1e3) / 1e3);
  }

  rebalance(t) {
    this.skew = 1.12;
    const replica = this.experts.replicas[0];
    const layer = replica.layers[Math.floor(this.rand() * replica.layers.length)];
    const { experts, slots, sizes } = this.shape;
    layer.slots = makePlacement(experts, slots, sizes.moe_ep, this.rand);
    this.countRanks(layer, this.experts);
    replica.plans += 1;
    replica.moves.layers += 1;
    replica.moves.copies += 9;
    replica.moves.bytes += 4.7e6;
    this.events.push({ t, kind: 'rebalance', text: `layer ${layer.layer}: 9 slots hold another expert; max/mean 1.75, expected 1.12`, layer: layer.layer });
  }

  about() {
    const { model, layout, sizes } = this.shape;
    const last = this.points[this.points.length - 1];
    return {
      model, version: '0.1.0', layout, state: this.state, uptime_seconds: Date.now() / 1000 - this.begun, world_size: this.ranks.length, sizes, dtype: 'bfloat16', kv_dtype: 'bfloat16',
      backend: 'cpu/avx512bf16', max_seq_len: 4096, threads_per_rank: 1,
      advice: this.state === 'ready' ? 'Decode waits for communication: rank 2 spends 31 % of its time in collectives, and layer 5 gives EP rank 1 1.6 times the mean.' : '',
      requests: { running: last.running, waiting: last.waiting, oldest_waiting_seconds: last.oldest_waiting_seconds },
      kv: { total_pages: 512, used_pages: Math.round(512 * last.kv_used), cached_pages: 107, tokens_per_page: 32, preemptions: 3, reused_tokens: 48210, computed_tokens: 53120 },
      ranks: this.ranks.map(rank => (this.trouble?.rank === rank.rank ? { ...rank, state: this.trouble.state } : rank)), traffic: this.traffic,
    };
  }

  expertReport() {
    if (!this.shape.experts) return this.experts;
    const { worst, mean } = this.points[this.points.length - 1].imbalance ?? { worst: 1, mean: 1 };
    for (const replica of this.experts.replicas) replica.max_over_mean = { worst, mean };
    return this.experts;
  }

  requests() {
    const { running, waiting } = this.points[this.points.length - 1];
    return { requests: Array.from({ length: running + waiting }, (_, index) => ({
      id: `req_${(0x5f3a11 + index * 7919).toString(16)}`, state: index < running ? (index % 9 === 8 ? 'prefill' : 'decode') : 'queued', age_seconds: 0.4 + index * 0.37, prompt_tokens: 24 + ((index * 37) % 300),
      generated_tokens: index < running && index % 9 !== 8 ? (index * 53) % 190 : 0, max_tokens: 200, attention_dp_rank: index < running ? index % this.shape.sizes.attention_dp : null })) };
  }
}

export const kConfig = { settings: [
  { name: 'tensor_parallel_size', value: 4, source: 'file examples/wide_ep.yaml' }, { name: 'moe_expert_parallel_size', value: 4, source: 'file examples/wide_ep.yaml' },
  { name: 'enable_attention_dp', value: true, source: 'file examples/wide_ep.yaml' }, { name: 'pipeline_parallel_size', value: 1, source: 'default' }, { name: 'context_parallel_size', value: 1, source: 'default' },
  { name: 'max_batch_size', value: 8, source: 'file examples/wide_ep.yaml' }, { name: 'max_num_tokens', value: 256, source: 'env SHOAL_MAX_NUM_TOKENS' }, { name: 'max_seq_len', value: 1024, source: 'flag --max-seq-len' },
  { name: 'kv_cache_config.max_tokens', value: 4096, source: 'file examples/wide_ep.yaml' }, { name: 'kv_cache_config.enable_block_reuse', value: true, source: 'default' },
  { name: 'moe_config.load_balancer', value: { num_slots: 40, layer_updates_per_iter: 2, max_stall_ms: 1 }, source: 'file examples/wide_ep.yaml' }, { name: 'threads_per_rank', value: 1, source: 'file examples/wide_ep.yaml' },
] };
