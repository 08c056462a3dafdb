// SPDX-License-Identifier: Apache-2.0
#include "model/expert_moves.h"

#include <time.h>

#include <algorithm>

namespace shoal {
namespace {

constexpr int64_t kPieceBytes = int64_t{128} << 10;  // some 20 us of a core: the clock is looked at in between

// That this thread has computed: what it took from others, however often it was suspended meanwhile.
double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

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
  Allowance(const CopyLimits& limits, const std::atomic<bool>& stopping) : limits_(limits), stopping_(stopping) {}
  bool left() {
    const double before = report_.seconds;
    report_.seconds = thread_seconds() - start_;
    longest_piece_ = std::max(longest_piece_, report_.seconds - before);
    if (report_.bytes == 0) return true;
    return !stopping_ && report_.bytes < limits_.bytes && report_.seconds + longest_piece_ <= limits_.seconds;
  }
  void take(int64_t bytes) { report_.bytes += bytes; }
  CopyReport report() {
    report_.seconds = thread_seconds() - start_;
    return report_;
  }

 private:
  CopyLimits limits_;
  const std::atomic<bool>& stopping_;
  CopyReport report_;
  double start_ = thread_seconds();
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

CopyReport run_copies(std::span<const std::shared_ptr<ExpertCopy>> copies, const CopyLimits& limits, Backend& backend,
                      const std::atomic<bool>& stopping) {
  Allowance allowance(limits, stopping);
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
