// SPDX-License-Identifier: Apache-2.0
// draw_batch: how many tokens each expert gets in one batch, drawn at random around mean loads. Dirichlet-multinomial: first the batch's own
// loads, the closer to the mean the larger `concentration`, then each token by itself. For tests and simulations; how real batches vary is
// in recorded statistics.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace shoal {

// With this concentration the loads of 36 ranks vary as those of DeepSeek-R1 that NVIDIA published do (standard deviation 53.9 at mean 1024).
inline constexpr double kMeasuredConcentration = 20035;

std::vector<int64_t> draw_batch(std::span<const double> load_of_expert, int64_t tokens, double concentration,
                                std::mt19937_64& random);

}  // namespace shoal
