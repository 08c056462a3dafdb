// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/waiter.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>

namespace shoal {
namespace {

using std::chrono::nanoseconds;

// A parked thread takes some 50 us to come back, a yielding one a few; but a yielding one looks busy to the kernel, which then does
// not move those that compute to its core. So yielding lasts about as long as ranks drift apart within a decode step.
constexpr auto kYieldTime = std::chrono::microseconds(300);
constexpr int kYieldsPerClock = 16;
constexpr auto kLongestPark = std::chrono::milliseconds(100);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

std::string seconds(nanoseconds time) { return fmt::format("{:.2f} s", std::chrono::duration<double>(time).count()); }

}  // namespace

Waiter::Waiter(WorldState& world, GroupState& group, int rank, const Activity& activity)
    : world_(world), group_(group), rank_(rank), activity_(activity) {
  activity_.inside = true;
  activity_.group = group.index();
  throw_if_failed();
  world_.set_activity(rank_, activity_);
}

Waiter::~Waiter() {
  activity_.inside = false;
  world_.set_activity(rank_, activity_);
}

void Waiter::now_awaits_readers() {
  activity_.peer = Activity::kAllFinished;
  world_.set_activity(rank_, activity_);
}

std::string Waiter::label() const {
  return fmt::format("rank {}: {} #{} of {}", rank_, operation_name(activity_.operation), activity_.sequence,
                     group_.name());
}

void Waiter::throw_if_failed() const {
  if (world_.failed()) throw CommError(fmt::format("{} given up: {}", label(), world_.cause()));
}

void Waiter::fail(const std::string& what) const {
  const std::string text = fmt::format("{}: {}", label(), what);
  world_.fail(text);
  if (world_.cause() != text) throw_if_failed();
  throw CommError(text);
}

void Waiter::wait(Progress& progress, uint64_t target, int owner) {
  for (; spins_ < world_.spin_limit(); ++spins_) {
    if (progress.reached(target)) return;
    relax();
  }
  if (progress.reached(target) || yield_until(progress, target, owner)) return;
  park_until(progress, target, owner);
}

bool Waiter::yield_until(const Progress& progress, uint64_t target, int owner) {
  if (start_ == Clock::time_point{}) start_ = Clock::now();
  do {
    for (int i = 0; i < kYieldsPerClock; ++i) {
      sched_yield();
      if (progress.reached(target)) return true;
    }
    check_owner(progress, target, owner);
  } while (Clock::now() - start_ < kYieldTime);
  return false;
}

void Waiter::park_until(Progress& progress, uint64_t target, int owner) {
  while (true) {
    Progress::Parked parked(progress);
    if (parked.reached(target)) return;
    check_owner(progress, target, owner);
    const nanoseconds left = start_ + world_.options().timeout - Clock::now();
    if (left <= nanoseconds::zero()) time_out();
    parked.sleep(std::min<nanoseconds>(left, kLongestPark));
  }
}

void Waiter::check_owner(const Progress& progress, uint64_t target, int owner) const {
  throw_if_failed();
  // In this order: a rank that did its part and then ended is not missed.
  if (world_.has_left(owner) && !progress.reached(target))
    fail(fmt::format("its peer has ended: {}", world_.describe(owner)));
}

void Waiter::time_out() const {
  std::vector<int> direct;
  const std::vector<int> roots = world_.culprits(rank_, activity_, direct);
  const auto names = [this](const std::vector<int>& ranks) {
    std::vector<std::string> texts;
    for (const int rank : ranks) texts.push_back(world_.describe(rank));
    return joined(texts, ", ");
  };
  std::string text = fmt::format("timed out after {}; late: {}", seconds(Clock::now() - start_), names(direct));
  if (!roots.empty() && roots != direct) text += fmt::format("; held up by {}", names(roots));
  if (roots.empty()) text += "; they wait for each other";
  fail(text);
}

}  // namespace shoal
