// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/stacks.h"

#include <algorithm>

namespace shoal::text {
namespace {

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15;
  return hash ^ (hash >> 29);
}

uint64_t hash_of(const Frame& frame, int32_t below) {
  const uint64_t counters = (uint64_t{static_cast<uint32_t>(frame.need)} << 32) | static_cast<uint32_t>(frame.room);
  return mix(mix(static_cast<uint32_t>(frame.node), counters), static_cast<uint32_t>(below));
}

}  // namespace

void Stacks::begin(Ways& ways) {
  ways.clear();
  if (++stamp_ == 0) {
    for (Seen& seen : seen_) seen.stamp = 0;
    stamp_ = 1;
  }
  seen_count_ = 0;
}

bool Stacks::first_time(const Way& way) {
  if (2 * seen_count_ >= seen_.size()) {
    std::vector<Seen> old(2 * seen_.size());
    old.swap(seen_);
    for (const Seen& seen : old) {
      if (seen.stamp != stamp_) continue;
      --seen_count_;
      first_time(seen.way);
    }
  }
  const size_t mask = seen_.size() - 1;
  const uint64_t extra = (uint64_t{way.counted.count} << 1) | (way.counted.closed ? 1 : 0);
  for (size_t at = mix(hash_of(way.frame, way.below), extra) & mask;; at = (at + 1) & mask) {
    Seen& seen = seen_[at];
    if (seen.stamp != stamp_) {
      seen = {stamp_, way};
      ++seen_count_;
      return true;
    }
    if (seen.way == way) return false;
  }
}

int32_t Stacks::push(const Frame& frame, int32_t below, int16_t depth) {
  if (2 * pushed_.size() >= slots_.size()) {
    slots_.assign(std::max<size_t>(64, 2 * slots_.size()), kNothing);
    for (int32_t i = 0; i < std::ssize(pushed_); ++i) {
      size_t at = hash_of(pushed_[i].frame, pushed_[i].below) & (slots_.size() - 1);
      while (slots_[at] != kNothing) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = i;
    }
  }
  const size_t mask = slots_.size() - 1;
  size_t at = hash_of(frame, below) & mask;
  for (; slots_[at] != kNothing; at = (at + 1) & mask) {
    const Pushed& pushed = pushed_[slots_[at]];
    if (pushed.below == below && pushed.frame == frame && pushed.depth == depth) return slots_[at];
  }
  slots_[at] = static_cast<int32_t>(pushed_.size());
  pushed_.push_back({frame, below, depth});
  return slots_[at];
}

bool Stacks::allowed(int16_t depth, int32_t node) {
  const int16_t height = automaton_->nodes[node].height;
  if (height > kMaxNesting) return false;
  const auto reached = static_cast<int16_t>(depth + height);
  asked = std::max(asked, reached);
  return reached <= limit;
}

bool Stacks::apply(CountOp op, Way& way) {
  if (op == CountOp::kKeep) return true;
  if (way.below == kOpenBelow) {
    if (op == CountOp::kCount) {
      ++way.counted.count;
    } else {
      way.counted.closed = true;
    }
    return true;
  }
  Frame& frame = way.frame;
  if (op == CountOp::kEnough) {
    if (frame.need > 0) return false;
    frame.room = kUnbounded;
    return true;
  }
  if (frame.room == 0) return false;
  if (frame.need > 0) --frame.need;
  if (frame.room != kUnbounded) --frame.room;
  return true;
}

void Stacks::enter(const Way& top, Ways& ways) {
  const Node& node = automaton_->nodes[top.frame.node];
  if (!allowed(top.depth, top.frame.node) || ways.tops.size() >= kMaxWays || seen_count_ >= 4 * kMaxWays) return;
  if (!first_time(top)) return;
  if (!node.edges.empty() || !node.tokens.empty()) ways.tops.push_back(top);
  for (const Call& c : node.calls) call(top, c, ways);
  if (node.ends) {
    if (top.below == kRootBelow) {
      ways.complete = true;
    } else if (top.below == kOpenBelow) {
      if (std::find(ways.escapes.begin(), ways.escapes.end(), top.counted) == ways.escapes.end())
        ways.escapes.push_back(top.counted);
    } else {
      pop(top.below, top.counted, ways);
    }
  }
  if (node.also != kNothing) {
    Way next = top;
    next.frame.node = node.also;
    enter(next, ways);
  }
}

void Stacks::call(const Way& from, const Call& call, Ways& ways) {
  Way next = from;
  if (!allowed(from.depth, call.back) || !apply(call.op, next)) return;
  const Rule& rule = automaton_->rules[call.rule];
  // A frame that has nothing left to do but to end is not worth keeping.
  if (from.below == kOpenBelow || !automaton_->nodes[call.back].only_ends()) {
    next.frame.node = call.back;
    next.below = push(next.frame, from.below, from.depth);
  }
  next.frame = {rule.start, rule.need, rule.room};
  next.depth = static_cast<int16_t>(from.depth + (rule.nests ? 1 : 0));
  enter(next, ways);
}

void Stacks::pop(int32_t below, Counted counted, Ways& ways) {
  const Pushed frame = pushed_[below];
  enter({frame.frame, frame.below, frame.depth, counted}, ways);
}

void Stacks::step(const Ways& from, uint8_t byte, Ways& to) {
  begin(to);
  for (const Way& way : from.tops) {
    for (const Edge& edge : automaton_->nodes[way.frame.node].edges) {
      if (byte < edge.low || byte > edge.high) continue;
      Way next = way;
      if (apply(edge.op, next)) {
        next.frame.node = edge.to;
        enter(next, to);
      }
      break;
    }
  }
}

void Stacks::step_token(const Ways& from, int32_t token, Ways& to) {
  begin(to);
  for (const Way& way : from.tops) {
    for (const TokenEdge& edge : automaton_->nodes[way.frame.node].tokens) {
      if (edge.token != token) continue;
      Way next = way;
      next.frame.node = edge.to;
      enter(next, to);
    }
  }
}

}  // namespace shoal::text
