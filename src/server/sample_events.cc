// SPDX-License-Identifier: Apache-2.0
#include "server/sample_events.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace shoal {
namespace {

constexpr double kRefusalsEvery = 10;  // seconds
constexpr size_t kLayersOneByOne = 3;  // more that change in one second are told together

std::string counted(int64_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

struct Change {
  int64_t layer = 0;
  int64_t slots = 0;                // that hold another expert
  double before = 1, expected = 1;  // max/mean
};

Change change_of(int64_t layer, const std::vector<int32_t>& old_slots, const ExpertStatus& now, int64_t ep) {
  const std::vector<int32_t>& slots = now.slots.at(layer);
  Change change{.layer = layer};
  for (size_t slot = 0; slot < slots.size(); ++slot) change.slots += slots[slot] != old_slots[slot];
  const auto loads = now.by_expert.find(layer);
  if (loads == now.by_expert.end()) return change;
  change.before = max_over_mean(expected_loads(old_slots, loads->second, ep));
  change.expected = max_over_mean(expected_loads(slots, loads->second, ep));
  return change;
}

std::vector<Change> changes(const ExpertStatus& before, const ExpertStatus& now, int64_t ep) {
  std::vector<Change> result;
  for (const auto& [layer, slots] : now.slots) {
    const auto old = before.slots.find(layer);
    if (old == before.slots.end() || old->second.size() != slots.size() || old->second == slots) continue;
    result.push_back(change_of(layer, old->second, now, ep));
  }
  return result;
}

Event together(double time, const std::vector<Change>& changes) {
  Change sum;
  for (const Change& change : changes) {
    sum.slots += change.slots;
    sum.before = std::max(sum.before, change.before);
    sum.expected = std::max(sum.expected, change.expected);
  }
  return {.time = time,
          .kind = "rebalance",
          .text = fmt::format("{} layers: {} slots hold another expert; worst max/mean {:.2f}, expected {:.2f}",
                              changes.size(), sum.slots, sum.before, sum.expected)};
}

void add_rebalances(std::vector<Event>& events, const Sample& before, const Sample& now) {
  const std::vector<ExpertStatus>& old = before.engine->experts;
  for (size_t dp = 0; dp < std::min(old.size(), now.engine->experts.size()); ++dp) {
    const std::vector<Change> all = changes(old[dp], now.engine->experts[dp], now.engine->facts.sizes.moe_expert);
    if (all.size() > kLayersOneByOne) {
      events.push_back(together(now.time, all));
      continue;
    }
    for (const Change& change : all)
      events.push_back({.time = now.time,
                        .kind = "rebalance",
                        .text = fmt::format("layer {}: {} hold{} another expert; max/mean {:.2f}, expected {:.2f}",
                                            change.layer, counted(change.slots, "slot"), change.slots == 1 ? "s" : "",
                                            change.before, change.expected),
                        .layer = change.layer});
  }
}

}  // namespace

std::vector<double> expected_loads(const std::vector<int32_t>& slots, const std::vector<double>& by_expert,
                                   int64_t ep) {
  std::vector<int64_t> copies(by_expert.size());
  for (const int32_t expert : slots)
    if (expert >= 0) ++copies[expert];
  std::vector<double> loads(ep);
  const size_t per_rank = slots.size() / ep;
  for (size_t slot = 0; slot < slots.size(); ++slot)
    if (const int32_t expert = slots[slot]; expert >= 0)
      loads[slot / per_rank] += by_expert[expert] / static_cast<double>(copies[expert]);
  return loads;
}

std::optional<Event> SampleEvents::refusals(const Sample& now) {
  int64_t all = 0;
  for (const auto& [reason, count] : now.counts.refused) all += count;
  if (all <= told_refusals_ || now.time - told_refusals_at_ < kRefusalsEvery) return std::nullopt;
  std::string reasons;
  for (const auto& [reason, count] : now.counts.refused)
    if (count > 0) reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", count, reason);
  Event event{.time = now.time,
              .kind = "refused",
              .text = fmt::format("{} {} turned away (since the start: {})", counted(all - told_refusals_, "request"),
                                  all - told_refusals_ == 1 ? "was" : "were", reasons)};
  told_refusals_ = all;
  told_refusals_at_ = now.time;
  return event;
}

std::vector<Event> SampleEvents::between(const Sample& before, const Sample& now) {
  std::vector<Event> events;
  if (before.engine && now.engine) add_rebalances(events, before, now);
  if (std::optional<Event> event = refusals(now)) events.push_back(std::move(*event));
  return events;
}

}  // namespace shoal
