// SPDX-License-Identifier: Apache-2.0
// A report as one HTML page with plots, which loads nothing and runs no scripts.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/bench/record.h"

namespace shoal::bench {

struct HtmlRun {
  std::string title;
  const nlohmann::ordered_json& report;  // of engine_report() or serve_report()
  const std::vector<RequestRecord>& records;
  std::vector<LoadPoint> load;  // empty: not known
};

std::string html_report(const std::string& title, const std::vector<HtmlRun>& runs);

}  // namespace shoal::bench
