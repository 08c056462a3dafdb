// SPDX-License-Identifier: Apache-2.0
#include "apps/report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "engine/kv_budget.h"

namespace shoal {
namespace {

constexpr int kBarWidth = 40;

std::string bytes_text(int64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

void print_line(const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }

// "12.3 MiB", or the least and the most where ranks differ.
std::string span_text(int64_t least, int64_t most) {
  return least == most ? bytes_text(most) : bytes_text(least) + " to " + bytes_text(most);
}

double imbalance(const std::vector<int64_t>& loads) {
  const int64_t sum = std::accumulate(loads.begin(), loads.end(), int64_t{0});
  const int64_t most = *std::max_element(loads.begin(), loads.end());
  return sum == 0 ? 1.0 : static_cast<double>(most) * static_cast<double>(loads.size()) / static_cast<double>(sum);
}

// Where the ranks' time went; the bubble is what they spent neither computing nor in collectives.
void print_shares(const Engine& engine) {
  RankStats sum;
  double worst = 0;
  for (const RankStats& rank : engine.stats().ranks) {
    sum.compute_seconds += rank.compute_seconds;
    sum.communication_seconds += rank.communication_seconds;
    sum.stage_seconds += rank.stage_seconds;
    sum.idle_seconds += rank.idle_seconds;
    worst = std::max(worst, rank.bubble());
  }
  const double all = sum.busy_seconds() + sum.stage_seconds + sum.idle_seconds;
  if (all <= 0) return;
  print_line(
      fmt::format("ranks    computing {:.1f} %, in collectives {:.1f} %, bubble {:.1f} % (other stages {:.1f} %, next "
                  "step {:.1f} %; worst rank {:.1f} %)",
                  100 * sum.compute_seconds / all, 100 * sum.communication_seconds / all, 100 * sum.bubble(),
                  100 * sum.stage_seconds / all, 100 * sum.idle_seconds / all, 100 * worst));
}

}  // namespace

std::string grid_text(const Mesh& mesh, bool has_moe) {
  const GridSizes& s = mesh.sizes();
  std::string text = fmt::format("{} {} = dp {} x pp {}", mesh.world_size(), mesh.world_size() == 1 ? "rank" : "ranks",
                                 s.data, s.pipeline);
  if (s.context > 1) text += fmt::format(" x cp {}", s.context);
  text += fmt::format(" x tp {}; attention dp {} x tp {}", s.tensor, s.attention_data, mesh.attn_tp_size());
  if (has_moe) text += fmt::format("; experts ep {} x tp {}", s.moe_expert, s.moe_tensor);
  return text;
}

std::string model_text(const ModelSpec& spec) {
  std::string text =
      fmt::format("{}, {} layers, hidden {}, vocabulary {}", spec.family, spec.layers.size(), spec.hidden, spec.vocab);
  for (const DecoderLayer& layer : spec.layers) {
    if (!layer.moe) continue;
    text += fmt::format(", {} experts (top {})", layer.moe->experts, layer.moe->top_k);
    break;
  }
  return text;
}

std::string ranges_text(const std::vector<int32_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (numbers[i] >= 0 && end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    if (numbers[i] < 0) {
      text += '-';
    } else {
      text += end - i == 1 ? fmt::format("{}", numbers[i]) : fmt::format("{}-{}", numbers[i], numbers[end - 1]);
    }
    i = end;
  }
  return text;
}

std::string types_text(DType weights, DType cache) {
  std::string text(dtype_name(weights));
  if (cache != weights) text += fmt::format(", KV cache {}", dtype_name(cache));
  return text;
}

void print_layout(const Engine& engine) {
  const EngineInfo& info = engine.info();
  for (const std::string& notice : info.notices) print_line("notice: " + notice);
  print_line("model    " + model_text(engine.spec()));
  print_line("layout   " + grid_text(engine.mesh(), engine.spec().has_moe()));
  print_line(fmt::format("compute  {} on {}, {} {} a rank{}", types_text(info.dtype, info.kv_dtype), info.backend,
                         info.threads_per_rank, info.threads_per_rank == 1 ? "thread" : "threads",
                         info.pinned ? ", pinned" : ""));
  const auto by_weight = [](const RankPlan& a, const RankPlan& b) { return a.weight_bytes < b.weight_bytes; };
  const auto kv_bytes = [&](const RankPlan& plan) {
    return plan.kv_bytes(info.kv.pages, engine.config().kv_cache.tokens_per_block);
  };
  const auto by_kv = [&](const RankPlan& a, const RankPlan& b) { return kv_bytes(a) < kv_bytes(b); };
  const auto [lightest, heaviest] = std::minmax_element(info.plans.begin(), info.plans.end(), by_weight);
  const auto [least, most] = std::minmax_element(info.plans.begin(), info.plans.end(), by_kv);
  print_line(fmt::format("memory   weights {} a rank; KV cache for {} tokens, up to {} a rank",
                         span_text(lightest->weight_bytes, heaviest->weight_bytes), info.kv.tokens,
                         span_text(kv_bytes(*least), kv_bytes(*most))));
}

void print_speed(const Engine& engine, double seconds) {
  const StepStats stats = engine.step_stats();
  print_line(fmt::format("speed    prompts {:.1f} tokens/s ({} tokens), generation {:.1f} tokens/s; {} steps, {:.2f} s",
                         engine.prompt_tokens_per_second(), stats.prompt_tokens, engine.generated_tokens_per_second(),
                         stats.steps, seconds));
  print_shares(engine);
}

void print_expert_load(Engine& engine) {
  const ExpertLoads loads = engine.expert_loads();
  if (loads.by_ep_rank.empty()) return;
  std::vector<int64_t> totals(engine.mesh().sizes().moe_expert);
  double worst = 0;
  int64_t worst_layer = 0;
  for (const auto& [layer, by_rank] : loads.by_ep_rank) {
    for (size_t i = 0; i < by_rank.size(); ++i) totals[i] += by_rank[i];
    if (imbalance(by_rank) <= worst) continue;
    worst = imbalance(by_rank);
    worst_layer = layer;
  }
  const int64_t sum = std::accumulate(totals.begin(), totals.end(), int64_t{0});
  const int64_t most = std::max<int64_t>(1, *std::max_element(totals.begin(), totals.end()));
  print_line(fmt::format(
      "experts  tokens by EP rank over {} layers: mean {:.1f}, max/mean {:.2f}; worst layer {}: max/mean {:.2f}",
      loads.by_ep_rank.size(), static_cast<double>(sum) / static_cast<double>(totals.size()), imbalance(totals),
      worst_layer, worst));
  for (size_t i = 0; i < totals.size(); ++i) {
    const auto width = static_cast<size_t>(kBarWidth * totals[i] / most);
    print_line(fmt::format("  ep {:<4} {:<{}} {}", i, std::string(width, '#'), kBarWidth, totals[i]));
  }
}

void print_expert_moves(const Engine& engine) {
  const auto& balancer = engine.config().moe.load_balancer;
  if (!balancer || balancer->layer_updates_per_iter == 0) return;
  int64_t replica = 0;
  for (const ExpertStatus& status : engine.expert_status()) {
    double heaviest = 0, mean = 0;
    for (const auto& [layer, by_rank] : status.by_ep_rank) {
      heaviest += *std::max_element(by_rank.begin(), by_rank.end());
      mean += std::accumulate(by_rank.begin(), by_rank.end(), 0.0) / static_cast<double>(by_rank.size());
    }
    print_line(fmt::format(
        "moves    replica {}: {} layers placed anew, {} copies, {}, {} given up; {} plans, {:.1f} ms; longest wait of "
        "a "
        "step {:.2f} ms; recent max/mean by EP rank {:.2f}",
        replica++, status.moves.layers, status.moves.copies, bytes_text(status.moves.bytes), status.moves.given_up,
        status.plans, 1e3 * status.planning_seconds, status.longest_wait_ms, mean > 0 ? heaviest / mean : 1.0));
  }
}

void print_statistics(const Engine& engine, int64_t steps) {
  const ExpertStatisticConfig& config = engine.config().expert_statistic;
  if (config.iter_range.empty() || !engine.spec().has_moe()) return;
  print_line(fmt::format("counted  experts of {} steps of {}, in {}", steps, config.iter_range, config.path));
}

void LoadBar::update(int64_t done, int64_t total) {
  if (ended_ || total <= 0) return;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const bool complete = done >= total;
  const Clock::time_point now = Clock::now();
  if (!terminal && !complete && now - last_line_ < std::chrono::seconds(5)) return;
  last_line_ = now;
  const double fraction = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const std::string state = fmt::format("{} of {}, {:.1f} s", bytes_text(done), bytes_text(total),
                                        std::chrono::duration<double>(now - start_).count());
  if (terminal) {
    const auto width = static_cast<size_t>(kBarWidth * fraction);
    std::fprintf(stderr, "\rloading  [%-*s] %s\033[K%s", kBarWidth, std::string(width, '#').c_str(), state.c_str(),
                 complete ? "\n" : "");
    std::fflush(stderr);
  } else {
    print_line(fmt::format("loading  {:.0f} %: {}", 100 * fraction, state));
  }
  ended_ = complete;
}

}  // namespace shoal
