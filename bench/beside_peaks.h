// SPDX-License-Identifier: Apache-2.0
// Times an operation between samples of the machine's peaks: sample, calls, sample, calls, ... A round's rates are held against the mean of
// the samples on either side of it; the counters are medians over rounds. So a share says what the kernel reaches, whatever else the
// machine does meanwhile.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <vector>

#include "machine.h"

namespace shoal::bench {

// What a call cannot do without: parts one after another, each taking the longer of its reading and its arithmetic.
struct Work {
  double bytes = 0;  // read from memory
  double flops = 0;  // a multiply-add counts two
};

// Counters: us (a call), GB_s with of_read, GF_s with of_dot, of_bound. `bf16`: the dot rate is that of bf16 products.
// op() is one call; it does its own turning over of cold data.
void run_beside_peaks(benchmark::State& state, int threads, const std::vector<Work>& parts, bool bf16,
                      const std::function<void()>& op);

}  // namespace shoal::bench
