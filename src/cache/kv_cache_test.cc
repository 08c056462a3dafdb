// SPDX-License-Identifier: Apache-2.0
// The cache's promises over random requests (counts add up, nobody else's page is written, what is matched holds those tokens), and
// what is reused in exact cases.
#include "cache/kv_cache.h"

#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <map>
#include <memory>
#include <numeric>

namespace shoal {
namespace {

using Tokens = std::vector<int32_t>;
using Copies = std::vector<std::vector<PageCopy>>;

Tokens count(int32_t first, int64_t n) {
  Tokens tokens(n);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

KvCacheLimits small(int64_t pages = 16) { return {.tokens_per_block = 4, .pools = {{.kind = {}, .pages = pages}}}; }

KvStart start_of(const Tokens& tokens, int64_t length = 0) {
  return {.tokens = tokens,
          .salt = {},
          .reusable = std::ssize(tokens) - 1,
          .length = length > 0 ? length : std::ssize(tokens),
          .rows = 64};
}

// Runs a sequence to the end of `tokens`; returns what it found in the cache.
int64_t run(KvCache& cache, const KvStart& start, Copies* made = nullptr) {
  KvSequence sequence;
  Copies copies;
  const auto reused = cache.start(sequence, start, copies);
  EXPECT_TRUE(reused);
  EXPECT_TRUE(cache.reserve(sequence, *reused, std::ssize(start.tokens)));
  cache.publish(sequence, start.tokens, std::ssize(start.tokens));
  cache.end(sequence);
  if (made) *made = copies;
  return *reused;
}

TEST(KvCache, ReusesWholeBlocksAndTheBeginningOfOne) {
  KvCache cache(small());
  EXPECT_EQ(run(cache, start_of(count(0, 14))), 0);
  EXPECT_EQ(cache.used_pages(), 0);
  EXPECT_EQ(cache.cached_pages(), 3);
  Copies copies;
  EXPECT_EQ(run(cache, start_of(count(0, 12)), &copies), 11);  // the last token is computed for its logits
  ASSERT_EQ(copies[0].size(), 1u);
  EXPECT_EQ(copies[0][0].tokens, 3);
  Tokens other = count(0, 20);
  other[9] = 99;
  EXPECT_EQ(run(cache, start_of(other)), 9);
  EXPECT_EQ(run(cache, start_of(other)), 19);
}

TEST(KvCache, PartialReuseCanBeLeftOutOrTakeOver) {
  KvCacheLimits limits = small();
  limits.partial_reuse = false;
  KvCache whole(limits);
  run(whole, start_of(count(0, 14)));
  EXPECT_EQ(run(whole, start_of(count(0, 12))), 8);
  limits.partial_reuse = true;
  limits.copy_on_partial_reuse = false;
  KvCache over(limits);
  run(over, start_of(count(0, 14)));
  Copies copies;
  EXPECT_EQ(run(over, start_of(count(0, 12)), &copies), 11);
  EXPECT_TRUE(copies[0].empty());
  EXPECT_EQ(over.cached_pages(), 3);
}

// Without the partial block, the whole ones before it may need pages of the window that are gone.
TEST(KvCache, WithoutThePartialBlockTheWindowMustStillBeThere) {
  KvCacheLimits limits{.tokens_per_block = 4, .pools = {{{}, 32}, {{.window = 8}, 32}}};
  limits.copy_on_partial_reuse = false;  // blocks that others continue are not taken over
  KvCache cache(limits);
  const Tokens tokens = count(0, 20);
  KvSequence sequence;
  Copies copies;
  ASSERT_TRUE(cache.start(sequence, start_of(tokens), copies));
  ASSERT_TRUE(cache.reserve(sequence, 0, 12));
  ASSERT_TRUE(cache.reserve(sequence, 12, 20));  // the first block slides out of the window
  cache.publish(sequence, tokens, 20);
  cache.end(sequence);
  ASSERT_EQ(cache.reusable(count(0, 11), {}), 11);
  EXPECT_EQ(run(cache, start_of(count(0, 12))), 0);
}

TEST(KvCache, SaltsShareNothing) {
  KvCache cache(small());
  KvStart one = start_of(count(0, 9)), two = one;
  const Tokens tokens = count(0, 9);
  one.tokens = two.tokens = tokens;
  one.salt = "a";
  two.salt = "b";
  EXPECT_EQ(run(cache, one), 0);
  EXPECT_EQ(run(cache, two), 0);
  EXPECT_EQ(run(cache, one), 8);
}

TEST(KvCache, EvictsTheLeafThatWasUnusedForLongest) {
  KvCache cache(small(6));
  const Tokens a = count(0, 8), b = count(100, 8), c = count(200, 16);
  run(cache, start_of(a));
  run(cache, start_of(b));
  run(cache, start_of(a));  // now b is older
  run(cache, start_of(c));  // 4 pages, of which 2 are free
  Tokens more = a;
  more.push_back(7);
  EXPECT_EQ(cache.reusable(more, {}), 8);
  EXPECT_EQ(cache.reusable(b, {}), 0);
}

TEST(KvCache, SlidingPagesComeBackWhileTheSequenceRuns) {
  KvCacheLimits limits{.tokens_per_block = 4, .pools = {{{}, 32}, {{.window = 8}, 5}}};
  KvCache cache(limits);
  const Tokens tokens = count(0, 64);
  KvSequence sequence;
  Copies copies;
  ASSERT_TRUE(cache.start(sequence, {.tokens = tokens, .salt = {}, .reusable = 63, .length = 64, .rows = 8}, copies));
  for (int64_t at = 0; at < 64; at += 8) {
    ASSERT_TRUE(cache.reserve(sequence, at, at + 8));
    for (int64_t block = 0; block < (at + 8) / 4; ++block)
      EXPECT_EQ(sequence.pages(1)[block] >= 0, block >= std::max<int64_t>(0, at - 7) / 4) << at << ' ' << block;
  }
  cache.publish(sequence, tokens, 64);
  cache.end(sequence);
  EXPECT_EQ(cache.used_pages(), 0);
  // The whole prefix can be had, since what its window needs is still there; its first half cannot.
  EXPECT_EQ(cache.reusable(tokens, {}), 64);
  EXPECT_EQ(cache.reusable(std::span(tokens).first(32), {}), 0);
}

TEST(KvCache, CachedSlidingPagesNeverKeepTheOnlySequenceOut) {
  KvCache cache({.tokens_per_block = 4, .pools = {{{}, 16}, {{.window = 8}, 4}}});
  const Tokens tokens = count(0, 13);
  KvStart start = start_of(tokens);
  start.guarantee = false;
  start.rows = 4;
  KvSequence sequence;
  Copies copies;
  ASSERT_TRUE(cache.start(sequence, start, copies));
  for (int64_t at = 0; at < 12; at += 4) {
    ASSERT_TRUE(cache.reserve(sequence, at, at + 4));
    cache.publish(sequence, tokens, at + 4);
  }
  cache.end(sequence);
  EXPECT_EQ(cache.start(sequence, start, copies), 12);  // though most of the window's pages are matched ones
}

TEST(KvCache, ContextParallelRanksTakeBlocksByTurns) {
  KvCacheLimits limits = small(3);
  limits.cp = 2;
  KvCache cache(limits);
  const Tokens tokens = count(0, 24);
  KvSequence sequence;
  Copies copies;
  ASSERT_TRUE(cache.start(sequence, start_of(tokens), copies));
  ASSERT_TRUE(cache.reserve(sequence, 0, 24));
  EXPECT_EQ(sequence.pages(0), (std::vector<int32_t>{0, 0, 1, 1, 2, 2}));
  KvSequence more;
  EXPECT_FALSE(cache.start(more, start_of(tokens, 25), copies));
  cache.end(sequence);
  EXPECT_EQ(KvCache::shortage(limits, 24, 64).pool, -1);
  EXPECT_EQ(KvCache::shortage(limits, 25, 64).needed, 4);
}

TEST(KvCache, GuaranteeCountsSharedPagesOnce) {
  KvCache cache(small(8));
  const Tokens tokens = count(0, 17);
  run(cache, start_of(tokens));
  std::vector<KvSequence> sequences(5);
  Copies copies;
  int started = 0;
  for (KvSequence& sequence : sequences) started += cache.start(sequence, start_of(tokens, 20), copies).has_value();
  EXPECT_EQ(started, 4);  // 4 shared pages, and one each
  for (KvSequence& sequence : sequences) {
    if (!sequence.active()) continue;
    EXPECT_TRUE(cache.reserve(sequence, 16, 20));
  }
  for (KvSequence& sequence : sequences) cache.end(sequence);
  EXPECT_EQ(cache.used_pages(), 0);
}

// --- random requests, as a scheduler would run them: what each page holds is tracked by the tokens written to it

struct Live {
  KvSequence sequence;
  Tokens tokens;
  int64_t written = 0;
};

class Simulation {
 public:
  Simulation(const KvCacheLimits& limits, bool guarantee) : limits_(limits), guarantee_(guarantee), cache_(limits) {}

  void step() {
    const int action = *rc::gen::inRange(0, 10);
    if (action < 3) begin();
    if (action >= 3 && action < 9 && !live_.empty()) advance(*rc::gen::inRange<size_t>(0, live_.size()));
    if (action == 9 && !live_.empty()) end(*rc::gen::inRange<size_t>(0, live_.size()));
    RC_ASSERT(cache_.used_pages() >= 0 && cache_.used_pages() + cache_.cached_pages() <= cache_.total_pages());
  }
  void finish() {
    while (!live_.empty()) end(0);
    RC_ASSERT(cache_.used_pages() == 0);
    cache_.clear();
    RC_ASSERT(cache_.cached_pages() == 0);
    RC_ASSERT(cache_.used_pages() == 0);
  }

 private:
  using Place = std::tuple<int, int64_t, int32_t, int64_t>;  // pool, space, page, row

  void begin() {
    auto live = std::make_unique<Live>();
    // Few different tokens, so that prefixes are often alike.
    live->tokens = *rc::gen::container<Tokens>(*rc::gen::inRange<size_t>(1, 40), rc::gen::inRange<int32_t>(0, 2));
    Copies copies;
    const auto reused = cache_.start(live->sequence,
                                     {.tokens = live->tokens,
                                      .salt = {},
                                      .reusable = std::ssize(live->tokens) - 1,
                                      .length = std::ssize(live->tokens),
                                      .rows = 8,
                                      .guarantee = guarantee_},
                                     copies);
    if (!reused) return;
    for (int pool = 0; pool < cache_.pools(); ++pool)
      for (const PageCopy& copy : copies[pool])
        for (int64_t row = 0; row < copy.tokens; ++row)
          memory_[{pool, copy.space, copy.to, row}] = memory_[{pool, copy.space, copy.from, row}];
    live->written = *reused;
    check(*live);
    live_.push_back(std::move(live));
  }

  void advance(size_t index) {
    Live& live = *live_[index];
    const int64_t rows = std::min(*rc::gen::inRange<int64_t>(1, 9), std::ssize(live.tokens) - live.written);
    if (rows == 0) return end(index);
    if (!cache_.reserve(live.sequence, live.written, live.written + rows)) {
      RC_ASSERT(!guarantee_);
      return end(index);
    }
    for (int64_t i = 0; i < rows; ++i, ++live.written)
      for (int pool = 0; pool < cache_.pools(); ++pool)
        memory_[place(live, pool, live.written)] = history(live, live.written);
    cache_.publish(live.sequence, live.tokens, live.written);
    check(live);
  }

  void end(size_t index) {
    cache_.end(live_[index]->sequence);
    live_.erase(live_.begin() + static_cast<int64_t>(index));
  }

  Place place(const Live& live, int pool, int64_t position) const {
    const int64_t block = position / limits_.tokens_per_block;
    const int32_t page = live.sequence.pages(pool)[block];
    RC_ASSERT(page >= 0);
    return {pool, block % limits_.cp, page, position % limits_.tokens_per_block};
  }
  // What a row of K stands for: all tokens up to it.
  static Tokens history(const Live& live, int64_t position) {
    return {live.tokens.begin(), live.tokens.begin() + position + 1};
  }
  // Every position that the next query sees holds what this sequence would have computed.
  void check(const Live& live) const {
    for (int pool = 0; pool < cache_.pools(); ++pool)
      for (int64_t position = limits_.pools[pool].kind.first_seen(live.written); position < live.written; ++position)
        RC_ASSERT(memory_.at(place(live, pool, position)) == history(live, position));
  }

  KvCacheLimits limits_;
  bool guarantee_;
  KvCache cache_;
  std::vector<std::unique_ptr<Live>> live_;
  std::map<Place, Tokens> memory_;
};

KvCacheLimits any_limits() {
  KvCacheLimits limits;
  limits.tokens_per_block = *rc::gen::element(1, 2, 4);
  limits.cp = *rc::gen::inRange(1, 4);
  const int64_t pages = 40 / limits.tokens_per_block / limits.cp + 1 + *rc::gen::inRange(0, 10);
  const int kinds = *rc::gen::inRange(0, 4);
  if (kinds != 3) limits.pools.push_back({{}, pages});
  if (kinds == 1 || kinds == 3) limits.pools.push_back({{.window = *rc::gen::inRange(1, 12)}, pages});
  if (kinds == 2) limits.pools.push_back({{.chunk = *rc::gen::inRange(1, 12)}, pages});
  limits.partial_reuse = *rc::gen::arbitrary<bool>();
  limits.copy_on_partial_reuse = *rc::gen::arbitrary<bool>();
  return limits;
}

RC_GTEST_PROP(KvCache, PagesHoldWhatTheirSequencesSay, ()) {
  Simulation simulation(any_limits(), *rc::gen::arbitrary<bool>());
  for (int i = 0; i < 60; ++i) simulation.step();
  simulation.finish();
}

}  // namespace
}  // namespace shoal
