// SPDX-License-Identifier: Apache-2.0
// The three kinds of failure. The user's: `Error`, one clear text (value, rule, remedy), exit code 2. The machine's: `CommError` and
// `DeviceError`, after which the group is dead, exit code 1. Ours: `CHECK*`, which prints both sides and aborts.
// Not here: logging; anything that ends the process below main.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace shoal {

// What the user got wrong; servers map it to a status code, commands to exit code 2.
enum class ErrorKind {
  kInvalid,      // a file, flag, config or request that breaks a rule
  kUnsupported,  // understood, but not built (yet)
  kLimit,        // larger than a stated bound
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& text) : std::runtime_error(text), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// A rank or peer that failed, stalled or died. Names rank, group, operation and who was late.
class CommError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A device (or its memory) that failed.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Collects every problem of one input, so that the user sees all of them at once.
class Problems {
 public:
  void add(std::string problem) { list_.push_back(std::move(problem)); }
  void append(const std::vector<std::string>& more) { list_.insert(list_.end(), more.begin(), more.end()); }
  bool empty() const { return list_.empty(); }
  const std::vector<std::string>& list() const { return list_; }
  // Throws Error(kInvalid): the summary line, then one indented line per problem. Does nothing if there is none.
  void throw_if_any(const std::string& summary) const;

 private:
  std::vector<std::string> list_;
};

[[noreturn]] void check_failed(const char* file, int line, const std::string& text);

namespace detail {
template <typename A, typename B>
[[noreturn]] void check_op_failed(const char* file, int line, const char* expression, const A& a, const B& b) {
  std::ostringstream text;
  text << expression << " (" << a << " vs " << b << ")";
  check_failed(file, line, text.str());
}
}  // namespace detail

}  // namespace shoal

// Invariants of our own; always on, so keep them out of inner loops.
#define SHOAL_CHECK(condition)                                               \
  do {                                                                       \
    if (!(condition)) ::shoal::check_failed(__FILE__, __LINE__, #condition); \
  } while (false)
#define SHOAL_CHECK_OP(op, a, b)                                                                   \
  do {                                                                                             \
    const auto& check_a_ = (a);                                                                    \
    const auto& check_b_ = (b);                                                                    \
    if (!(check_a_ op check_b_))                                                                   \
      ::shoal::detail::check_op_failed(__FILE__, __LINE__, #a " " #op " " #b, check_a_, check_b_); \
  } while (false)
#define CHECK_EQ(a, b) SHOAL_CHECK_OP(==, a, b)
#define CHECK_NE(a, b) SHOAL_CHECK_OP(!=, a, b)
#define CHECK_LE(a, b) SHOAL_CHECK_OP(<=, a, b)
#define CHECK_LT(a, b) SHOAL_CHECK_OP(<, a, b)
#define CHECK_GE(a, b) SHOAL_CHECK_OP(>=, a, b)
#define CHECK_GT(a, b) SHOAL_CHECK_OP(>, a, b)
#define CHECK(condition) SHOAL_CHECK(condition)
