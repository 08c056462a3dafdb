// SPDX-License-Identifier: Apache-2.0
// What a report must say to be compared with another: the machine, the build, the model.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace shoal::bench {

// name, memory.total (GiB), clocks.mem (unknown here), cores.
nlohmann::ordered_json machine_json();
// version, compiler, optimised, checks.
nlohmann::ordered_json build_json();
bool is_optimised_build();
// A hash of config.json and of the weight files' names and sizes: equal for equal checkpoints, without reading them.
std::string model_fingerprint(const std::filesystem::path& model_dir);
// "2026-01-31T12:00:00Z".
std::string utc_time();

}  // namespace shoal::bench
