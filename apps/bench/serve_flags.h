// SPDX-License-Identifier: Apache-2.0
// The flags of `shoal bench serve`, which are vLLM's, checked all at once.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/bench/arrivals.h"
#include "apps/bench/dataset.h"
#include "apps/bench/find_rate.h"
#include "apps/bench/http_client.h"
#include "apps/bench/serve_report.h"
#include "base/error.h"

namespace shoal::bench {

// One run of a sweep.
struct LoadSetting {
  double request_rate = 0;
  int64_t max_concurrency = 0;
};

class ServeFlags {
 public:
  void declare(CLI::App& app);
  // Error with everything that is wrong; fills in what follows from the flags.
  void settle();

  DatasetOptions data;
  ArrivalOptions arrivals;
  ServeReportOptions report;
  ServerAddress address;
  HttpHeaders headers;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<LoadSetting> settings;  // one, or those of --sweep
  std::vector<Bound> bounds;          // of --find-rate
  nlohmann::ordered_json extra = nlohmann::ordered_json::object();

  std::string backend = "openai", endpoint, model, served_model_name, tokenizer, label;
  std::string result_dir, result_filename, html;
  int64_t max_concurrency = 0, num_warmups = 0;
  double ready_timeout_s = 0, timeout_s = 600;
  bool ignore_eos = false, save_result = false, save_detailed = false, append_result = false, quiet = false;
  bool chat() const { return backend == "openai-chat"; }

 private:
  void declare_server(CLI::App& app);
  void declare_sampling(CLI::App& app);
  void declare_results(CLI::App& app);
  void settle_server(Problems& problems);
  void settle_report(Problems& problems);
  void settle_goodput(Problems& problems);
  void settle_extra(Problems& problems);
  void settle_sweep(Problems& problems);

  std::string base_url_, host_ = "127.0.0.1", extra_body_, find_rate_, sweep_;
  std::string percentile_metrics_ = "ttft,tpot,itl,e2el", metric_percentiles_ = "50,90,95,99";
  int64_t port_ = 8000;
  bool insecure_ = false;
  std::vector<std::string> header_, metadata_, goodput_;
  std::optional<double> temperature_, top_p_, min_p_, frequency_penalty_, presence_penalty_, repetition_penalty_;
  std::optional<int64_t> top_k_;
};

}  // namespace shoal::bench
