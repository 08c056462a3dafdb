// SPDX-License-Identifier: Apache-2.0
#include "model/expert_moves.h"

#include <algorithm>
#include <chrono>

namespace shoal {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPieceBytes = int64_t{128} << 10;  // some 20 us of a core: the clock is looked at in between

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Bytes [copied, copied + piece) of gate_up and down, one after the other; returns how many.
int64_t copy_piece(ExpertCopy& copy, Backend& backend) {
  const int64_t first = copy.from.gate_up.bytes(), begin = copy.copied_bytes;
  if (begin == 0 && copy.from.gate_up_bias.defined()) {
    const Tensor& bias = copy.from.gate_up_bias;
    const Shape row{1, bias.elements()};
    backend.scatter_rows(copy.to.gate_up_bias.view(row), std::array<int32_t, 1>{0}, bias.view(row));
  }
  if (begin < first) {
    const int64_t bytes = std::min(kPieceBytes, first - begin);
    backend.copy_matrix(copy.from.gate_up, copy.to.gate_up, begin, bytes);
    return bytes;
  }
  const int64_t bytes = std::min(kPieceBytes, copy.from.bytes() - begin);
  backend.copy_matrix(copy.from.down, copy.to.down, begin - first, bytes);
  return bytes;
}

// Says after each piece whether there may be another, and keeps the account.
class Allowance {
 public:
  explicit Allowance(const CopyLimits& limits) : limits_(limits) {}
  bool left() {
    const double before = report_.seconds;
    report_.seconds = seconds_since(start_);
    longest_piece_ = std::max(longest_piece_, report_.seconds - before);
    if (report_.bytes == 0) return true;
    return report_.bytes < limits_.bytes && report_.seconds + longest_piece_ <= limits_.seconds;
  }
  void take(int64_t bytes) { report_.bytes += bytes; }
  CopyReport report() {
    report_.seconds = seconds_since(start_);
    return report_;
  }

 private:
  CopyLimits limits_;
  CopyReport report_;
  Clock::time_point start_ = Clock::now();
  double longest_piece_ = 0;
};

// False if the allowance ended first.
bool go_on(ExpertCopy& copy, Allowance& allowance, Backend& backend) {
  while (!*copy.abandoned && copy.copied_bytes < copy.from.bytes()) {
    if (!allowance.left()) return false;
    const int64_t bytes = copy_piece(copy, backend);
    copy.copied_bytes += bytes;
    allowance.take(bytes);
  }
  return true;
}

}  // namespace

CopyReport run_copies(std::span<const std::shared_ptr<ExpertCopy>> copies, const CopyLimits& limits, Backend& backend) {
  Allowance allowance(limits);
  for (const std::shared_ptr<ExpertCopy>& copy : copies) {
    if (copy->state != ExpertCopy::State::kCopying) continue;
    try {
      if (!go_on(*copy, allowance, backend)) break;
    } catch (...) {
      *copy->abandoned = true;
    }
    copy->state = *copy->abandoned ? ExpertCopy::State::kGivenUp : ExpertCopy::State::kDone;
  }
  return allowance.report();
}

}  // namespace shoal
