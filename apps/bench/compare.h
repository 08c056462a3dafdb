// SPDX-License-Identifier: Apache-2.0
// Two saved reports side by side: bench compare. Where both hold each request's numbers, ratios of means have an interval.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace shoal::bench {

// Every number of a report by its path, such as "performance.request_throughput_req_s"; lists are left out.
std::vector<std::pair<std::string, double>> numbers_of(const nlohmann::ordered_json& report);

// The middle 95 % of mean(b) / mean(a) over resamples of both, always the same ones.
std::optional<std::pair<double, double>> ratio_interval(const std::vector<double>& a, const std::vector<double>& b);

// As lines of text: the figures that both have.
std::string compare_text(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b);

}  // namespace shoal::bench
