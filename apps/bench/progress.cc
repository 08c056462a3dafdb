// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace shoal::bench {
namespace {

constexpr int kBarWidth = 30;

}  // namespace

ProgressBar::ProgressBar(std::string what, int64_t total, bool silent)
    : what_(std::move(what)), total_(total), silent_(silent) {}

void ProgressBar::update(int64_t requests, int64_t tokens) {
  if (silent_ || ended_ || total_ <= 0) return;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const bool complete = requests >= total_;
  const Clock::time_point now = Clock::now();
  const auto pause = terminal ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000);
  if (!complete && now - drawn_ < pause) return;
  drawn_ = now;
  ended_ = complete;
  const double seconds = std::max(1e-9, std::chrono::duration<double>(now - start_).count());
  const double fraction = std::min(1.0, static_cast<double>(requests) / static_cast<double>(total_));
  std::string state = fmt::format("{} of {} requests, {:.1f} tokens/s, {:.1f} s", requests, total_,
                                  static_cast<double>(tokens) / seconds, seconds);
  if (!complete && requests > 0) state += fmt::format(", {:.0f} s left", seconds / fraction - seconds);
  if (!terminal) {
    std::fprintf(stderr, "%-8s %3.0f %%: %s\n", what_.c_str(), 100 * fraction, state.c_str());
    return;
  }
  const auto width = static_cast<size_t>(kBarWidth * fraction);
  std::fprintf(stderr, "\r%-8s [%-*s] %s\033[K%s", what_.c_str(), kBarWidth, std::string(width, '#').c_str(),
               state.c_str(), complete ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace shoal::bench
