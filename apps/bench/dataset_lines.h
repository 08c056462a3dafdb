// SPDX-License-Identifier: Apache-2.0
// JSON lines of a dataset, whose every problem is counted and the first few of which are told.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/bench/dataset.h"

namespace shoal::bench {

// One request a line, the first `count` (0: all); empty lines are passed over. `read` throws Error for a line that it refuses.
// "-" reads standard input. Error with the number of bad lines and the first of them.
std::vector<BenchRequest> read_lines(const std::string& path, int64_t count,
                                     const std::function<BenchRequest(const nlohmann::ordered_json&)>& read);

// A member that must be a whole number of at least `least`, and small enough to be a length.
int64_t whole_number(const nlohmann::ordered_json& object, const char* key, int64_t least);
std::vector<int32_t> token_ids(const nlohmann::ordered_json& list);

}  // namespace shoal::bench
