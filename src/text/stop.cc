// SPDX-License-Identifier: Apache-2.0
#include "text/stop.h"

#include <algorithm>

#include "base/error.h"

namespace shoal {

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop) : include_stop_(include_stop) {
  // The longest first, so that among those ending at the same byte it is met first.
  std::stable_sort(stops.begin(), stops.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  for (std::string& stop : stops) {
    if (stop.empty()) throw Error(ErrorKind::kInvalid, "stop: an empty stop string would stop at once; leave it out");
    Pattern pattern{.text = std::move(stop), .border = {0}};
    size_t length = 0;
    for (size_t i = 1; i < pattern.text.size(); ++i) {
      while (length > 0 && pattern.text[i] != pattern.text[length]) length = pattern.border[length - 1];
      if (pattern.text[i] == pattern.text[length]) ++length;
      pattern.border.push_back(length);
    }
    patterns_.push_back(std::move(pattern));
  }
}

void StopMatcher::advance(Pattern& pattern, char byte) const {
  while (pattern.state > 0 && pattern.text[pattern.state] != byte) pattern.state = pattern.border[pattern.state - 1];
  if (pattern.text[pattern.state] == byte) ++pattern.state;
}

std::string StopMatcher::push(std::string_view piece) {
  if (stopped()) return {};
  for (const char byte : piece) {
    held_ += byte;
    for (Pattern& pattern : patterns_) advance(pattern, byte);
    const auto done = std::find_if(patterns_.begin(), patterns_.end(),
                                   [](const Pattern& pattern) { return pattern.state == pattern.text.size(); });
    if (done == patterns_.end()) continue;
    matched_ = static_cast<int>(done - patterns_.begin());
    if (!include_stop_) held_.resize(held_.size() - done->text.size());
    return std::exchange(held_, {});
  }
  size_t undecided = 0;
  for (const Pattern& pattern : patterns_) undecided = std::max(undecided, pattern.state);
  std::string certain = held_.substr(0, held_.size() - undecided);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

}  // namespace shoal
