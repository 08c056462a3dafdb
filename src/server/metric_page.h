// SPDX-License-Identifier: Apache-2.0
// MetricPage: metrics on their way into the text of GET /metrics; packaged prometheus-cpp writes it. A metric's samples stand together, in
// the order in which they were added.
#pragma once

#include <prometheus/metric_family.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/distribution.h"

namespace shoal {

class MetricPage {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;

  // One metric: add its samples.
  class Metric {
   public:
    explicit Metric(prometheus::MetricFamily& family) : family_(family) {}
    Metric& add(double value, const Labels& labels = {});
    Metric& add(int64_t value, const Labels& labels = {}) { return add(static_cast<double>(value), labels); }

   private:
    prometheus::MetricFamily& family_;
  };

  // Valid until the next metric is made.
  Metric counter(const std::string& name, const std::string& help);
  Metric gauge(const std::string& name, const std::string& help);

  struct Classes {
    std::vector<double> bounds;   // upper, inclusive
    std::vector<int64_t> counts;  // by class: one more than bounds
    double sum = 0;
  };
  static Classes classes(const Distribution& distribution);
  // Only classes up to `most`, the rest put together.
  static Classes classes(const Distribution& distribution, double most);
  // Another sample of the metric made last if that has the same name.
  void histogram(const std::string& name, const std::string& help, const Classes& classes, const Labels& labels);

  std::string text() const;

 private:
  prometheus::MetricFamily& family(const std::string& name, const std::string& help, prometheus::MetricType type);

  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace shoal
