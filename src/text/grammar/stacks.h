// SPDX-License-Identifier: Apache-2.0
// Reading bytes with an automaton: all ways to read the text so far, each a stack of frames. The frames below the top ones are shared
// and interned, so equal stacks are one. Invariants: every way that is kept can be finished, within kMaxNesting; the order of ways depends on
// the text only; there are at most kMaxWays (of a very ambiguous grammar the first ones are kept: fewer texts, never a wrong one).
//
// For tables of what a frame allows whatever lies below it (token_table.h), the bottom can be left open: such a frame's counters are not checked
// but recorded, and its end is recorded as an escape.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "text/grammar/automaton.h"

namespace shoal::text {

struct Frame {
  int32_t node = kNothing;
  int32_t need = 0, room = kUnbounded;
  bool operator==(const Frame&) const = default;
};

constexpr int32_t kRootBelow = -1;  // nothing lies below: the end of the frame is the end of the text
constexpr int32_t kOpenBelow = -2;  // not known

// What the open bottom frame has done: its counters allow it if count <= room and, where closed, need <= count.
struct Counted {
  uint8_t count = 0;
  bool closed = false;
  bool operator==(const Counted&) const = default;
  bool fits(const Frame& frame) const { return count <= frame.room && (!closed || frame.need <= count); }
};

struct Way {
  Frame frame;
  int32_t below = kRootBelow;  // index into Stacks
  int16_t depth = 0;           // nesting, this frame included
  Counted counted;
  bool operator==(const Way&) const = default;
};

struct Ways {
  std::vector<Way> tops;
  std::vector<Counted> escapes;
  bool complete = false;  // the root has ended
  bool none() const { return tops.empty() && escapes.empty() && !complete; }
  void clear() {
    tops.clear();
    escapes.clear();
    complete = false;
  }
};

class Stacks {
 public:
  static constexpr size_t kMaxWays = 2048;

  explicit Stacks(const Automaton& automaton) : automaton_(&automaton) {}

  // Adds `top`, and what it leads to without reading anything.
  void enter(const Way& top, Ways& ways);
  // Begins a set: what was entered before is no longer taken for a repetition.
  void begin(Ways& ways);
  void step(const Ways& from, uint8_t byte, Ways& to);
  void step_token(const Ways& from, int32_t token, Ways& to);
  // What goes on when the frame `below` is come back to.
  void pop(int32_t below, Counted counted, Ways& ways);

  // Nesting that ways may reach, from the depth that they began with; and the most that any asked for.
  int16_t limit = kMaxNesting;
  int16_t asked = 0;

 private:
  struct Pushed {
    Frame frame;
    int32_t below;
    int16_t depth;
  };
  int32_t push(const Frame& frame, int32_t below, int16_t depth);
  bool first_time(const Way& way);
  bool allowed(int16_t depth, int32_t node);
  static bool apply(CountOp op, Way& way);
  void call(const Way& from, const Call& call, Ways& ways);

  const Automaton* automaton_;
  std::vector<Pushed> pushed_;
  std::vector<int32_t> slots_;  // open addressing over pushed_, a power of two
  struct Seen {
    uint32_t stamp = 0;
    Way way;
  };
  std::vector<Seen> seen_ = std::vector<Seen>(64);  // as above, over the current set
  size_t seen_count_ = 0;
  uint32_t stamp_ = 0;
};

}  // namespace shoal::text
