// SPDX-License-Identifier: Apache-2.0
// History: the last ten minutes of the server, a point a second, and its last events; and who watches it. Frames are those of GET /v1/events:
// first the whole history, then points, events and statics as they come.
// Invariants: a watcher misses nothing between its first frame and the next; nothing waits for a watcher. Thread-safe.
// Not here: when samples are taken (monitor.h), sockets.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace shoal {

struct Event {
  double time = 0;   // seconds since 1970
  std::string kind;  // loading, ready, rebalance, drain, rank_failed, restart, refused, error
  std::string text;  // one line
  std::optional<int64_t> layer{};
};

class History {
 public:
  static constexpr size_t kPoints = 600, kEvents = 200, kWatchers = 8;

  // Both are called under the history's lock, and must not wait.
  struct Watcher {
    std::function<bool(const std::string& frame)> send;  // false: gone
    std::function<bool()> gone;
  };

  void add_point(const nlohmann::ordered_json& point);
  void add_event(const Event& event);
  // The layout has changed, or the world has begun anew: the GET /v1/ranks object of now.
  void tell_static(const nlohmann::ordered_json& ranks);

  // Its first frame, with the GET /v1/ranks object of now, is on its way when this returns. False if kWatchers are watching.
  bool watch(const nlohmann::ordered_json& ranks, Watcher watcher);
  size_t watchers();

 private:
  void tell(const std::string& frame);
  void forget_gone();
  std::string history_frame(const nlohmann::ordered_json& ranks) const;

  std::mutex mutex_;
  std::deque<std::string> points_, events_;  // JSON
  std::deque<Watcher> watchers_;
};

}  // namespace shoal
