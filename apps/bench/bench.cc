// SPDX-License-Identifier: Apache-2.0
// shoal bench: measures an engine in this process, or a server over HTTP.
#include "apps/bench/bench.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/flags.h"
#include "base/error.h"

namespace shoal {
namespace {

class Bench : public Command {
 public:
  Bench() {
    parts_.push_back(bench::throughput_command());
    parts_.push_back(bench::latency_command());
    parts_.push_back(bench::serve_bench_command());
    parts_.push_back(bench::compare_command());
  }
  const char* name() const override { return "bench"; }
  const char* summary() const override { return "Measure throughput and latency, of an engine or of a server"; }
  bool takes_engine_options() const override { return false; }
  bool takes_engine_options_with(const std::vector<std::string>& arguments) const override {
    return std::any_of(parts_.begin(), parts_.end(), [&](const auto& part) {
      return part->takes_engine_options() && arguments.size() > 1 && arguments[1] == part->name();
    });
  }

  void declare(CLI::App& app) override {
    app.require_subcommand(0, 1);  // that there is one, run() says better
    for (const auto& part : parts_) {
      CLI::App* sub = app.add_subcommand(part->name(), part->summary());
      part->declare(*sub);
      if (part->takes_engine_options()) add_option_help(*sub);
      subs_.push_back(sub);
    }
  }

  int run(const EngineConfig& config) override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (subs_[i]->parsed()) return parts_[i]->run(config);
    }
    std::string names;
    for (const auto& part : parts_) names += (names.empty() ? "" : ", ") + std::string(part->name());
    throw Error(ErrorKind::kInvalid, fmt::format("bench is one of {}, each with --help", names));
  }

 private:
  std::vector<std::unique_ptr<Command>> parts_;
  std::vector<CLI::App*> subs_;
};

}  // namespace

std::unique_ptr<Command> bench_command() { return std::make_unique<Bench>(); }

}  // namespace shoal
