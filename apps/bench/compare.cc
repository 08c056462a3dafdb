// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/compare.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <numeric>
#include <random>

#include "apps/bench/bench.h"
#include "apps/bench/statistics.h"
#include "base/error.h"
#include "base/json_file.h"

namespace shoal::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kResamples = 1000;
constexpr size_t kLeastForInterval = 10;
constexpr JsonLimits kReportLimits{.bytes = int64_t{1} << 30, .depth = 64, .unique_keys = false};

void collect(const Json& value, const std::string& path, std::vector<std::pair<std::string, double>>& numbers) {
  if (value.is_number()) numbers.emplace_back(path, value.get<double>());
  if (!value.is_object()) return;
  for (const auto& [key, member] : value.items()) collect(member, path.empty() ? key : path + "." + key, numbers);
}

std::vector<double> list_of(const Json& report, const char* key) {
  std::vector<double> values;
  if (!report.contains(key) || !report[key].is_array()) return values;
  for (const Json& value : report[key])
    if (value.is_number()) values.push_back(value.get<double>());
  return values;
}

double resampled_mean(const std::vector<double>& values, std::mt19937_64& random) {
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) sum += values[random() % values.size()];
  return sum / static_cast<double>(values.size());
}

std::string interval_text(const Json& a, const Json& b, const char* key) {
  const auto interval = ratio_interval(list_of(a, key), list_of(b, key));
  return interval ? fmt::format("  {:.3f} to {:.3f}", interval->first, interval->second) : "";
}

class Compare : public Command {
 public:
  const char* name() const override { return "compare"; }
  const char* summary() const override { return "Put two saved reports side by side"; }
  bool takes_engine_options() const override { return false; }
  void declare(CLI::App& app) override {
    app.add_option("A", a_, "report of bench, as JSON")->required();
    app.add_option("B", b_, "report to compare with it")->required();
  }
  int run(const EngineConfig& /*config*/) override {
    const std::string text = compare_text(read_json_file(a_, kReportLimits), read_json_file(b_, kReportLimits));
    std::fwrite(text.data(), 1, text.size(), stdout);
    return 0;
  }

 private:
  std::string a_, b_;
};

}  // namespace

std::vector<std::pair<std::string, double>> numbers_of(const Json& report) {
  std::vector<std::pair<std::string, double>> numbers;
  collect(report, "", numbers);
  return numbers;
}

std::optional<std::pair<double, double>> ratio_interval(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() < kLeastForInterval || b.size() < kLeastForInterval) return {};
  std::mt19937_64 random(0);
  std::vector<double> ratios;
  for (int i = 0; i < kResamples; ++i) {
    const double below = resampled_mean(a, random);
    const double above = resampled_mean(b, random);
    if (below > 0) ratios.push_back(above / below);
  }
  const Sample sample(std::move(ratios));
  return std::pair{sample.percentile(2.5), sample.percentile(97.5)};
}

std::string compare_text(const Json& a, const Json& b) {
  if (!a.is_object() || !b.is_object()) throw Error(ErrorKind::kInvalid, "both reports must be JSON objects");
  std::map<std::string, double> others;
  for (const auto& [path, value] : numbers_of(b)) others[path] = value;
  std::string text = fmt::format("{:<58} {:>14} {:>14} {:>9}  {}\n", "", "A", "B", "B / A", "95 % of B / A");
  size_t shared = 0;
  for (const auto& [path, value] : numbers_of(a)) {
    const auto found = others.find(path);
    if (found == others.end()) continue;
    ++shared;
    const std::string ratio = value != 0 ? fmt::format("{:.3f}", found->second / value) : "-";
    text += fmt::format("{:<58} {:>14.3f} {:>14.3f} {:>9}", path, value, found->second, ratio);
    if (path == "mean_ttft_ms") text += interval_text(a, b, "ttfts");
    if (path == "mean_e2el_ms") text += interval_text(a, b, "latencies");
    text += '\n';
  }
  if (shared == 0)
    throw Error(ErrorKind::kInvalid, "the reports have no figure in common; are both of the same command?");
  return text;
}

std::unique_ptr<Command> compare_command() { return std::make_unique<Compare>(); }

}  // namespace shoal::bench
