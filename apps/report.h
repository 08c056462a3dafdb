// SPDX-License-Identifier: Apache-2.0
// What the commands tell on standard error around their output: layout, loading, speed, expert load. All of it is silenced by --quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "engine/engine.h"

namespace shoal {

// "8 ranks = dp 1 x pp 2 x tp 4; attention dp 4, moe tp 1 x ep 4".
std::string grid_text(const Mesh& mesh, bool has_moe);
// "deepseek_v3, 8 layers, hidden 256, 32 experts".
std::string model_text(const ModelSpec& spec);
// "0-3", "0-3,8,10-11"; an empty slot is "-".
std::string ranges_text(const std::vector<int32_t>& numbers);

// "bfloat16", or "bfloat16, KV cache float32".
std::string types_text(DType weights, DType cache);

void print_layout(const Engine& engine);
void print_speed(const Engine& engine, double seconds);
// Nothing for a model without experts.
void print_expert_load(Engine& engine);
// Nothing where experts cannot move.
void print_expert_moves(const Engine& engine);
// Nothing where no statistics were asked for; `steps` have been written.
void print_statistics(const Engine& engine, int64_t steps);

// A bar that is redrawn on a terminal; elsewhere a line now and then.
class LoadBar {
 public:
  void update(int64_t done_bytes, int64_t total_bytes);

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_line_ = start_;
  bool ended_ = false;
};

}  // namespace shoal
