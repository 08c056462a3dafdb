// SPDX-License-Identifier: Apache-2.0
#include "server/metrics_text.h"

#include "server/engine_metrics.h"
#include "server/metric_page.h"
#include "server/process_stats.h"

namespace shoal {
namespace {

using Labels = MetricPage::Labels;

// All of vLLM's metrics have these.
Labels vllm_labels(const ServerStatus& server) { return {{"model_name", server.model}, {"engine", "0"}}; }

Labels with(Labels labels, const char* name, const std::string& value) {
  labels.emplace_back(name, value);
  return labels;
}

void add_requests(MetricPage& page, const ServerMetrics::Counts& counts, const Labels& labels) {
  page.counter("vllm:prompt_tokens_total",
               "Prompt tokens of requests whose first token has come, cached ones included.")
      .add(counts.prompt_tokens, labels);
  page.counter("vllm:generation_tokens_total", "Generated tokens.").add(counts.generated_tokens, labels);
  auto finished = page.counter("vllm:request_success_total", "Finished sequences, by reason.");
  for (const auto& [reason, count] : counts.finished) finished.add(count, with(labels, "finished_reason", reason));
}

void add_request_times(MetricPage& page, const RequestDistributions& requests, const Labels& labels) {
  const auto add = [&](const char* name, const char* help, const Distribution& distribution) {
    page.histogram(name, help, MetricPage::classes(distribution), labels);
  };
  add("vllm:time_to_first_token_seconds", "From a request's arrival to its first token.", requests.time_to_first_token);
  add("vllm:inter_token_latency_seconds", "From one token of a sequence to its next.", requests.inter_token);
  add("vllm:request_time_per_output_token_seconds", "The mean of these, of each finished sequence.",
      requests.time_per_output_token);
  add("vllm:e2e_request_latency_seconds", "From a request's arrival to its end.", requests.total);
  add("vllm:request_queue_time_seconds", "Until its first step was planned.", requests.queue);
  add("vllm:request_prefill_time_seconds", "From there to its first token.", requests.prefill);
  add("vllm:request_decode_time_seconds", "From there to its last token.", requests.decode);
  add("vllm:request_inference_time_seconds", "From its first step to its end.", requests.inference);
  add("vllm:request_params_n", "Sequences asked for.", requests.choices);
}

// vLLM's classes end at the longest sequence that the model can have.
void add_request_tokens(MetricPage& page, const RequestDistributions& requests, double most, const Labels& labels) {
  const auto add = [&](const char* name, const char* help, const Distribution& distribution) {
    page.histogram(name, help, MetricPage::classes(distribution, most), labels);
  };
  add("vllm:request_prompt_tokens", "Prompt tokens of finished sequences.", requests.prompt_tokens);
  add("vllm:request_generation_tokens", "Generated tokens of finished sequences.", requests.generated_tokens);
  add("vllm:request_params_max_tokens", "max_tokens of finished sequences.", requests.max_tokens);
  add("vllm:request_max_num_generation_tokens", "max_tokens of accepted requests.", requests.most_tokens_asked);
}

void add_vllm_cache(MetricPage& page, const EngineReading& engine, const Labels& labels) {
  const CacheUse& cache = engine.stats.cache;
  page.gauge("vllm:kv_cache_usage_perc", "Share of KV pages in use by requests; 1 is all of them.")
      .add(cache.total_pages > 0 ? static_cast<double>(cache.used_pages) / static_cast<double>(cache.total_pages) : 0.0,
           labels);
  page.counter("vllm:prefix_cache_queries_total", "Tokens looked up in the prefix cache.")
      .add(cache.stats.queried_tokens, labels);
  page.counter("vllm:prefix_cache_hits_total", "Tokens found there.").add(cache.stats.reused_tokens, labels);
  page.counter("vllm:num_preemptions_total", "Requests that gave way to others, to be computed again.")
      .add(cache.preemptions, labels);
  page.gauge("vllm:cache_config_info", "The KV cache, as labels; always 1.")
      .add(1.0, {{"engine", "0"},
                 {"block_size", std::to_string(engine.facts.tokens_per_page)},
                 {"cache_dtype", engine.facts.kv_dtype},
                 {"num_gpu_blocks", std::to_string(cache.total_pages)},
                 {"num_cpu_blocks", "0"},
                 {"enable_prefix_caching", engine.facts.prefix_reuse ? "True" : "False"}});
}

void add_vllm_engine(MetricPage& page, const EngineReading& engine, const Labels& labels) {
  page.gauge("vllm:num_requests_running", "Sequences that run.").add(engine.stats.requests.running, labels);
  page.gauge("vllm:num_requests_waiting", "Sequences that wait for their first step.")
      .add(engine.stats.requests.waiting, labels);
  add_vllm_cache(page, engine, labels);
  const StepStats& steps = engine.stats.steps;
  page.histogram("vllm:iteration_tokens_total", "Tokens of each step.",
                 {.bounds = {kStepTokenBounds.begin(), kStepTokenBounds.end()},
                  .counts = {steps.by_tokens.begin(), steps.by_tokens.end()},
                  .sum = static_cast<double>(steps.tokens)},
                 labels);
}

void add_http(MetricPage& page, const ServerMetrics& metrics, const ServerMetrics::Counts& counts) {
  auto requests = page.counter("http_requests_total", "HTTP answers.");
  for (const auto& [key, count] : counts.http) {
    const auto& [method, route, status] = key;
    requests.add(count, {{"method", method}, {"handler", route}, {"status", std::to_string(status)}});
  }
  for (const auto& [key, seconds] : metrics.http_seconds())
    page.histogram("http_request_duration_seconds", "Until the last byte of an answer was handed to the system.",
                   MetricPage::classes(*seconds), {{"method", key.first}, {"handler", key.second}});
}

void add_server(MetricPage& page, const ServerMetrics& metrics, const ServerStatus& server,
                const ServerMetrics::Counts& counts) {
  auto state = page.gauge("shoal_state", "1 for the state that the server is in.");
  for (const char* name : {"loading", "ready", "draining", "failed"})
    state.add(server.state == name ? 1.0 : 0.0, {{"state", name}});
  page.gauge("shoal_build_info", "The build, as labels; always 1.").add(1.0, {{"version", server.version}});
  page.gauge("shoal_requests_unfinished", "Sequences that have arrived and not ended.").add(metrics.unfinished());
  page.gauge("shoal_oldest_waiting_seconds", "Age of the oldest sequence that has not begun to run.")
      .add(server.oldest_waiting_seconds);
  page.counter("shoal_cached_prompt_tokens_total",
               "Prompt tokens of finished sequences that came from the prefix cache.")
      .add(counts.cached_tokens);
  auto refusals = page.counter("shoal_admission_refusals_total", "Requests turned away before they were queued.");
  for (const auto& [reason, count] : counts.refused) refusals.add(count, {{"reason", reason}});
}

void add_process(MetricPage& page) {
  const ProcessStats stats = read_process_stats();
  page.counter("process_cpu_seconds_total", "User and system CPU time.").add(stats.cpu_seconds);
  page.gauge("process_resident_memory_bytes", "Resident memory.").add(stats.resident_bytes);
  page.gauge("process_virtual_memory_bytes", "Virtual memory.").add(stats.virtual_bytes);
  page.gauge("process_start_time_seconds", "Start, in seconds since 1970.").add(stats.start_time_seconds);
  page.gauge("process_open_fds", "Open file descriptors.").add(stats.open_fds);
  page.gauge("process_max_fds", "Most of them that are allowed.").add(stats.max_fds);
  page.gauge("process_threads", "Threads.").add(stats.threads);
}

}  // namespace

std::string metrics_text(const ServerMetrics& metrics, const ServerStatus& server, const EngineReading* engine) {
  MetricPage page;
  const ServerMetrics::Counts counts = metrics.counts();
  const Labels labels = vllm_labels(server);
  add_requests(page, counts, labels);
  add_request_times(page, metrics.requests(), labels);
  const double longest =
      engine ? static_cast<double>(engine->facts.max_seq_len) : metrics.requests().max_tokens.bounds().back();
  add_request_tokens(page, metrics.requests(), longest, labels);
  if (engine) add_vllm_engine(page, *engine, labels);
  add_server(page, metrics, server, counts);
  if (engine) add_engine_metrics(page, server, *engine);
  add_http(page, metrics, counts);
  add_process(page);
  return page.text();
}

}  // namespace shoal
