// SPDX-License-Identifier: Apache-2.0
// A picture of rank loads, as SVG: one panel a policy, one row a layer, one cell a rank, coloured by load over mean.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace shoal {

struct LoadPanel {
  std::string title;
  std::vector<std::vector<double>> load_over_mean;  // [layer][rank]
};

std::string load_picture(const std::string& title, const std::vector<int64_t>& layers,
                         const std::vector<LoadPanel>& panels);

}  // namespace shoal
