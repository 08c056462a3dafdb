// SPDX-License-Identifier: Apache-2.0
#include "server/history.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

// What clients and models are called may hold any bytes.
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string event_text(const Event& event) {
  Json json = {{"t", std::round(event.time * 1e3) / 1e3}, {"kind", event.kind}, {"text", event.text}};
  if (event.layer) json["layer"] = *event.layer;
  return dump(json);
}

void push(std::deque<std::string>& ring, std::string text, size_t most) {
  ring.push_back(std::move(text));
  if (ring.size() > most) ring.pop_front();
}

}  // namespace

void History::add_point(const Json& point) {
  const std::lock_guard lock(mutex_);
  push(points_, dump(point), kPoints);
  tell(fmt::format(R"({{"type":"point","point":{}}})", points_.back()));
}

void History::add_event(const Event& event) {
  const std::lock_guard lock(mutex_);
  push(events_, event_text(event), kEvents);
  tell(fmt::format(R"({{"type":"event","event":{}}})", events_.back()));
}

void History::tell_static(const Json& ranks) {
  const std::lock_guard lock(mutex_);
  tell(fmt::format(R"({{"type":"static","static":{}}})", dump(ranks)));
}

bool History::watch(const Json& ranks, Watcher watcher) {
  const std::lock_guard lock(mutex_);
  forget_gone();
  if (watchers_.size() >= kWatchers) return false;
  if (watcher.send(history_frame(ranks))) watchers_.push_back(std::move(watcher));
  return true;
}

size_t History::watchers() {
  const std::lock_guard lock(mutex_);
  forget_gone();
  return watchers_.size();
}

void History::tell(const std::string& frame) {
  std::erase_if(watchers_, [&](const Watcher& watcher) { return !watcher.send(frame); });
}

void History::forget_gone() {
  std::erase_if(watchers_, [](const Watcher& watcher) { return watcher.gone(); });
}

std::string History::history_frame(const Json& ranks) const {
  return fmt::format(R"({{"type":"history","interval_seconds":1,"points":[{}],"events":[{}],"static":{}}})",
                     fmt::join(points_, ","), fmt::join(events_, ","), dump(ranks));
}

}  // namespace shoal
