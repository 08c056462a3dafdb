// SPDX-License-Identifier: Apache-2.0
#include "parallel/batch_draw.h"

#include <algorithm>
#include <numeric>

namespace shoal {

std::vector<int64_t> draw_batch(std::span<const double> load_of_expert, int64_t tokens, double concentration,
                                std::mt19937_64& random) {
  const double total = std::accumulate(load_of_expert.begin(), load_of_expert.end(), 0.0);
  std::vector<int64_t> batch(load_of_expert.size());
  if (total <= 0) return batch;
  std::vector<double> shares(load_of_expert.size());
  for (size_t i = 0; i < shares.size(); ++i) {
    if (load_of_expert[i] <= 0) continue;
    shares[i] = std::gamma_distribution<double>(concentration * load_of_expert[i] / total, 1)(random);
  }
  // A multinomial as a chain of binomials over what is left.
  double share_left = std::accumulate(shares.begin(), shares.end(), 0.0);
  int64_t last = static_cast<int64_t>(shares.size()) - 1;
  while (shares[last] <= 0) --last;
  for (int64_t i = 0; i < last && tokens > 0; ++i) {
    const double part = std::clamp(shares[i] / share_left, 0.0, 1.0);
    batch[i] = std::binomial_distribution<int64_t>(tokens, part)(random);
    tokens -= batch[i];
    share_left -= shares[i];
  }
  batch[last] = tokens;
  return batch;
}

}  // namespace shoal
