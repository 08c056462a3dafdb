// SPDX-License-Identifier: Apache-2.0
#include "server/metric_page.h"

#include <prometheus/text_serializer.h>

#include <limits>
#include <sstream>

namespace shoal {
namespace {

prometheus::ClientMetric labelled(const MetricPage::Labels& labels) {
  prometheus::ClientMetric metric;
  for (const auto& [name, value] : labels) metric.label.push_back({name, value});
  return metric;
}

}  // namespace

MetricPage::Metric& MetricPage::Metric::add(double value, const Labels& labels) {
  prometheus::ClientMetric metric = labelled(labels);
  if (family_.type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family_.metric.push_back(std::move(metric));
  return *this;
}

MetricPage::Metric MetricPage::counter(const std::string& name, const std::string& help) {
  return Metric(family(name, help, prometheus::MetricType::Counter));
}

MetricPage::Metric MetricPage::gauge(const std::string& name, const std::string& help) {
  return Metric(family(name, help, prometheus::MetricType::Gauge));
}

MetricPage::Classes MetricPage::classes(const Distribution& distribution) {
  return {.bounds = distribution.bounds(), .counts = distribution.counts(), .sum = distribution.sum()};
}

MetricPage::Classes MetricPage::classes(const Distribution& distribution, double most) {
  Classes classes = MetricPage::classes(distribution);
  while (!classes.bounds.empty() && classes.bounds.back() > most) {
    classes.bounds.pop_back();
    const int64_t last = classes.counts.back();
    classes.counts.pop_back();
    classes.counts.back() += last;
  }
  return classes;
}

void MetricPage::histogram(const std::string& name, const std::string& help, const Classes& classes,
                           const Labels& labels) {
  prometheus::ClientMetric metric = labelled(labels);
  uint64_t count = 0;
  for (size_t i = 0; i < classes.counts.size(); ++i) {
    count += static_cast<uint64_t>(classes.counts[i]);
    const bool last = i == classes.bounds.size();
    metric.histogram.bucket.push_back({count, last ? std::numeric_limits<double>::infinity() : classes.bounds[i]});
  }
  metric.histogram.sample_count = count;
  metric.histogram.sample_sum = classes.sum;
  const bool another = !families_.empty() && families_.back().name == name;
  prometheus::MetricFamily& target = another ? families_.back() : family(name, help, prometheus::MetricType::Histogram);
  target.metric.push_back(std::move(metric));
}

std::string MetricPage::text() const {
  std::ostringstream out;
  prometheus::TextSerializer{}.Serialize(out, families_);
  return std::move(out).str();
}

prometheus::MetricFamily& MetricPage::family(const std::string& name, const std::string& help,
                                             prometheus::MetricType type) {
  families_.push_back({.name = name, .help = help, .type = type, .metric = {}});
  return families_.back();
}

}  // namespace shoal
