// SPDX-License-Identifier: Apache-2.0
// JSON as a model writes it, character by character: where one value ends, and what a tool call's object says. Lenient: what is malformed ends
// somewhere, and whoever called checks. Not here: markup around it (tool_calls.h).
#pragma once

#include <string>
#include <string_view>

namespace shoal::text {

// Finds the end of one value.
class JsonSpan {
 public:
  enum class Place : uint8_t {
    kBefore,  // blanks in front of it
    kInside,
    kLast,    // the character ends it
    kBehind,  // it had ended before the character (numbers, true, false, null)
  };
  Place feed(char c);
  bool begun() const { return begun_; }

 private:
  bool begun_ = false, in_string_ = false, escaped_ = false, scalar_ = false;
  int depth_ = 0;
};

// {"name": …, "arguments": {…}}, also with "parameters", and also inside {"function": …}. Arguments come out as they are written.
class CallObject {
 public:
  enum class State : uint8_t { kReading, kDone, kNoCall };
  State feed(char c);
  // The name is known, and what it is.
  bool has_name() const { return !name_.empty(); }
  const std::string& name() const { return name_; }
  // Arguments that came since the last time; nothing before the name is known.
  std::string take_arguments();

 private:
  enum class Part : uint8_t { kOpen, kKey, kColon, kValue, kComma };
  State end_object();
  void end_value();
  State read_value(char c);

  Part part_ = Part::kOpen;
  int depth_ = 0;
  JsonSpan span_;
  std::string piece_, key_, name_, arguments_;
  bool saw_arguments_ = false;
};

}  // namespace shoal::text
