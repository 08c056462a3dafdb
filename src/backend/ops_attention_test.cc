// SPDX-License-Identifier: Apache-2.0
// Conformance of the KV cache and attention: values against the reference, and the bit rules: a row's result does not depend on
// chunking, batch mates, page size or threads.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "backend/ops_test.h"
#include "tensor/float8.h"

namespace shoal {
namespace {

struct Case {
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t k_dim = 24;
  int64_t v_dim = 20;
  bool latent = false;  // values are the first v_dim columns of k
  DType dtype = DType::kF32;
  int64_t tokens_per_block = 32;
  int64_t window = 0;
  int64_t chunk = 0;
  bool sinks = false;
  int64_t ranks = 1;  // pages dealt over so many shares, attended to apart, then joined
  float v_scale = 1.0f;
};

// Queries, keys and values of one sequence, [context, ...].
struct Sequence {
  int64_t context = 0;
  std::vector<float> q, k, v;
};

// Queries at positions [begin, end) of sequence `index`.
struct Piece {
  size_t index = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

float kept(float value, DType dtype) {
  if (dtype == DType::kBF16) return to_float(to_bfloat16(value));
  return dtype == DType::kF8E4M3 ? f8e4m3_to_float(to_float8(value).bits) : value;
}

class AttentionOps : public OpsTest {
 protected:
  // Some paths round queries and weights to bf16 where the cache is bf16.
  bool rounds(const Case& c) const { return c.dtype == DType::kBF16 && activation_bits(GetParam().isa) == 8; }

  Sequence sequence(const Case& c, int64_t context) {
    return {.context = context,
            .q = random(context * c.heads * c.k_dim, -2.0f, 2.0f),
            .k = random(context * c.kv_heads * c.k_dim, -2.0f, 2.0f),
            .v = c.latent ? std::vector<float>() : random(context * c.kv_heads * c.v_dim, -c.v_scale, c.v_scale)};
  }

  // One backend's cache of all sequences, its pages in random order, every place not written holding NaN.
  struct Cache {
    KvLayer layer;
    std::vector<std::vector<int32_t>> pages;
  };

  Cache fill(Backend& backend, const Case& c, const std::vector<Sequence>& sequences) {
    int64_t count = 1;
    for (const Sequence& s : sequences) count += (s.context + c.tokens_per_block - 1) / c.tokens_per_block;
    std::vector<int32_t> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), rng_);
    Cache cache;
    cache.layer.k = backend.empty(c.dtype, {count, c.kv_heads, c.tokens_per_block, c.k_dim});
    if (!c.latent) cache.layer.v = backend.empty(c.dtype, {count, c.kv_heads, c.tokens_per_block, c.v_dim});
    poison(backend, cache.layer);
    size_t next = 0;
    for (const Sequence& s : sequences) {
      std::vector<int32_t> pages, slots;
      for (int64_t p = 0; p < s.context; ++p) {
        if (p % c.tokens_per_block == 0) pages.push_back(order[next++]);
        slots.push_back(static_cast<int32_t>(pages.back() * c.tokens_per_block + p % c.tokens_per_block));
      }
      const Tensor k = rows(backend, s.k, s.context, c.kv_heads, c.k_dim, 0);
      backend.kv_write(cache.layer, k, c.latent ? Tensor() : rows(backend, s.v, s.context, c.kv_heads, c.v_dim, 0),
                       slots);
      cache.pages.push_back(pages);
    }
    return cache;
  }

  static Tensor rows(Backend& backend, const std::vector<float>& values, int64_t tokens, int64_t heads, int64_t dim,
                     int64_t padding) {
    return strided(backend, values, tokens, heads * dim, padding).view({tokens, heads, dim});
  }

  static void poison(Backend& backend, const KvLayer& layer) {
    const int64_t slots = layer.k.rows() * layer.tokens_per_block();
    std::vector<int32_t> all(static_cast<size_t>(slots));
    std::iota(all.begin(), all.end(), 0);
    const auto nan = [&](const Tensor& pages) {
      const std::vector<float> values(static_cast<size_t>(slots * pages.size(1) * pages.size(3)), NAN);
      return rows(backend, values, slots, pages.size(1), pages.size(3), 0);
    };
    backend.kv_write(layer, nan(layer.k), layer.v.defined() ? nan(layer.v) : Tensor(), all);
  }

  // Attention of one batch made of `pieces`; rows in their order, [rows, heads * v_dim].
  std::vector<float> attend(Backend& backend, const Case& c, const std::vector<Sequence>& sequences, const Cache& cache,
                            const std::vector<Piece>& pieces, int64_t padding = 0) {
    std::vector<float> q;
    std::vector<SequenceSpan> spans;
    int64_t row = 0;
    for (const Piece& piece : pieces) {
      const int64_t width = c.heads * c.k_dim;
      const auto& source = sequences[piece.index].q;
      q.insert(q.end(), source.begin() + piece.begin * width, source.begin() + piece.end * width);
      spans.push_back({.row_begin = row,
                       .rows = piece.end - piece.begin,
                       .context = piece.end,
                       .prompt_rows = 0,
                       .pages = cache.pages[piece.index]});
      row += piece.end - piece.begin;
    }
    AttentionSpec spec = {.scale = 0.3f, .v_dim = c.v_dim, .window = c.window, .chunk = c.chunk};
    std::vector<float> sinks;
    for (int64_t head = 0; head < c.heads; ++head) sinks.push_back(0.7f * static_cast<float>(head) - 1.0f);
    if (c.sinks) spec.sinks = vector(backend, sinks);
    const Tensor queries = rows(backend, q, row, c.heads, c.k_dim, padding);
    if (c.ranks == 1) return backend.to_host(backend.attention(queries, cache.layer, spans, spec));
    std::vector<AttentionPart> parts;
    const Tensor joined_sinks = std::exchange(spec.sinks, Tensor());
    for (int64_t rank = 0; rank < c.ranks; ++rank) {
      const PageShare share{rank, c.ranks};
      parts.push_back(backend.attention_part(queries, cache.layer, held_by(share, spans), spec, share));
    }
    return backend.to_host(backend.attention_join(parts, joined_sinks));
  }

  static std::vector<SequenceSpan> held_by(const PageShare& share, std::vector<SequenceSpan> spans) {
    for (SequenceSpan& span : spans) {
      const std::vector<int32_t> all = std::exchange(span.pages, {});
      for (size_t page = 0; page < all.size(); ++page)
        if (share.holds_page(static_cast<int64_t>(page))) span.pages.push_back(all[page]);
    }
    return spans;
  }

  void compare(const Case& c, const std::vector<int64_t>& contexts, int64_t last_rows) {
    std::vector<Sequence> sequences;
    std::vector<Piece> pieces;
    for (const int64_t context : contexts) {
      pieces.push_back({sequences.size(), std::max<int64_t>(0, context - last_rows), context});
      sequences.push_back(sequence(c, context));
      if (!rounds(c)) continue;
      for (float& value : sequences.back().q) value = to_float(to_bfloat16(value));
    }
    const double tolerance = rounds(c) ? 3e-3 : 3e-6;  // of weights: values are at most 1
    const Cache cache = fill(*backend_, c, sequences), expected = fill(reference_, c, sequences);
    Case whole = c;
    whole.ranks = 1;
    expect_close(attend(*backend_, c, sequences, cache, pieces, 2),
                 attend(reference_, whole, sequences, expected, pieces), tolerance, "attention");
    if (c.ranks > 1)
      expect_close(attend(reference_, c, sequences, expected, pieces),
                   attend(reference_, whole, sequences, expected, pieces), 1e-6, "parts of the reference");
  }

  // Whole prefill, random chunks and single positions give the same bits.
  void compare_chunkings(const Case& c, int64_t context) {
    const std::vector<Sequence> sequences = {sequence(c, context), sequence(c, 100)};
    const Cache cache = fill(*backend_, c, sequences);
    const std::vector<float> whole = attend(*backend_, c, sequences, cache, {{0, 0, context}});
    const int64_t width = c.heads * c.v_dim;
    const auto part = [&](int64_t begin, int64_t end) {
      return std::vector<float>(whole.begin() + begin * width, whole.begin() + end * width);
    };
    for (int64_t begin = 0; begin < context;) {
      const int64_t end = std::min(context, begin + random_int(1, 150));
      expect_same_bits(attend(*backend_, c, sequences, cache, {{0, begin, end}}), part(begin, end), "chunk");
      begin = end;
    }
    for (int64_t i = 0; i < 40; ++i) {
      const int64_t position = i == 0 ? context - 1 : random_int(0, context - 1);
      expect_same_bits(attend(*backend_, c, sequences, cache, {{0, position, position + 1}}),
                       part(position, position + 1), "decode at " + std::to_string(position));
    }
    std::vector<float> mixed =
        attend(*backend_, c, sequences, cache, {{1, 17, 60}, {0, context - 9, context}, {1, 99, 100}});
    expect_same_bits({mixed.begin() + 43 * width, mixed.begin() + 52 * width}, part(context - 9, context),
                     "batch mates");
  }
};

TEST_P(AttentionOps, CacheKeepsWhatIsWritten) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    for (const int64_t tokens_per_block : {8, 32, 100}) {
      const Case c = {.kv_heads = 3, .k_dim = 21, .v_dim = 5, .dtype = dtype, .tokens_per_block = tokens_per_block};
      const std::vector<Sequence> sequences = {sequence(c, 77), sequence(c, 1)};
      const Cache cache = fill(*backend_, c, sequences);
      for (size_t i = 0; i < sequences.size(); ++i) {
        std::vector<float> expected = sequences[i].k;
        for (float& value : expected) value = kept(value, dtype);
        const SequenceSpan span = {
            .row_begin = 0, .rows = 1, .context = sequences[i].context, .prompt_rows = 0, .pages = cache.pages[i]};
        expect_same_bits(backend_->to_host(backend_->kv_read(cache.layer, span)), expected, "kv_read");
      }
    }
  }
}

// Every code comes back as itself; what lies between goes to the nearer, halves to the even code, and what is too large to the largest.
TEST_P(AttentionOps, EightBitCacheRoundsToNearest) {
  std::vector<float> values = {0.0f, -0.0f, 449.0f, 1e30f, -1e30f, 464.0f, 1e-30f, 0x1p-10f, 0x1.8p-9f, -0x1.1p-10f};
  for (int code = 0; code < 127; ++code) {
    const float value = f8e4m3_to_float(static_cast<uint8_t>(code));
    values.push_back(value);
    values.push_back(-value);
    if (code == 126) break;
    const float next = f8e4m3_to_float(static_cast<uint8_t>(code + 1)), middle = (value + next) / 2;
    values.insert(values.end(), {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, next)});
  }
  const auto nearest = [](float value) {
    float best = 0.0f, distance = HUGE_VALF;
    for (int code = 0; code < 127; ++code) {  // of two that are as near, the even one
      const float candidate = f8e4m3_to_float(static_cast<uint8_t>(code)), here = std::abs(std::abs(value) - candidate);
      if (here > distance || (here == distance && code % 2 != 0)) continue;
      best = candidate;
      distance = here;
    }
    return std::copysign(best, value);
  };
  const auto tokens = std::ssize(values);
  const KvLayer layer{backend_->empty(DType::kF8E4M3, {1, 1, tokens, 1}), Tensor()};
  std::vector<int32_t> slots(values.size());
  std::iota(slots.begin(), slots.end(), 0);
  backend_->kv_write(layer, rows(*backend_, values, tokens, 1, 1, 0), Tensor(), slots);
  const std::vector<float> read = backend_->to_host(
      backend_->kv_read(layer, {.row_begin = 0, .rows = 1, .context = tokens, .prompt_rows = 0, .pages = {0}}));
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(read[i], nearest(values[i])) << values[i];
}

TEST_P(AttentionOps, MatchesTheReferenceOverShapes) {
  const std::vector<std::pair<int64_t, int64_t>> dims = {{8, 8},   {16, 16},   {64, 64},  {128, 128},
                                                         {24, 20}, {100, 130}, {192, 128}};
  for (const auto& [k_dim, v_dim] : dims)
    for (const auto& [heads, kv_heads] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {4, 2}, {5, 1}, {12, 2}})
      for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3})
        compare({.heads = heads, .kv_heads = kv_heads, .k_dim = k_dim, .v_dim = v_dim, .dtype = dtype}, {1, 70, 133},
                9);
}

TEST_P(AttentionOps, MatchesTheReferenceOnPrefill) {
  for (const int64_t tokens_per_block : {8, 24, 64, 128})
    compare({.tokens_per_block = tokens_per_block}, {1, 3, 64, 200}, 200);
}

TEST_P(AttentionOps, MatchesTheReferenceOnLongContexts) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3})
    compare({.heads = 3, .kv_heads = 1, .dtype = dtype}, {512, 513, 1700}, 5);
}

TEST_P(AttentionOps, MatchesTheReferenceWithWindowsChunksAndSinks) {
  for (const int64_t window : {1, 5, 64, 128, 700})
    compare({.window = window, .sinks = window % 2 == 0}, {40, 130, 1100}, 90);
  for (const int64_t chunk : {4, 50, 128, 512}) compare({.chunk = chunk, .sinks = chunk == 50}, {40, 130, 1100}, 90);
  compare({.window = 30, .chunk = 100, .sinks = true}, {333}, 333);
}

TEST_P(AttentionOps, MatchesTheReferenceOnALatentCache) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    compare({.heads = 16, .kv_heads = 1, .k_dim = 576, .v_dim = 512, .latent = true, .dtype = dtype}, {3, 600}, 2);
    compare({.heads = 40, .kv_heads = 1, .k_dim = 40, .v_dim = 33, .latent = true, .dtype = dtype}, {90, 530}, 7);
  }
}

TEST_P(AttentionOps, EmptyBatch) {
  const Case c;
  const std::vector<Sequence> sequences = {sequence(c, 10)};
  const Cache cache = fill(*backend_, c, sequences);
  EXPECT_TRUE(attend(*backend_, c, sequences, cache, {}).empty());
  EXPECT_TRUE(attend(*backend_, c, sequences, cache, {{0, 10, 10}}).empty());
}

// Scores far apart: weights underflow to 0 and the maximum rises late.
TEST_P(AttentionOps, LargeScores) {
  const Case c = {.heads = 2, .kv_heads = 1, .k_dim = 16, .v_dim = 8};
  std::vector<Sequence> sequences = {sequence(c, 600)};
  for (size_t i = 0; i < sequences[0].k.size(); ++i) sequences[0].k[i] *= 0.2f * static_cast<float>(i / 16 % 97);
  const Cache cache = fill(*backend_, c, sequences), expected = fill(reference_, c, sequences);
  expect_close(attend(*backend_, c, sequences, cache, {{0, 0, 600}}),
               attend(reference_, c, sequences, expected, {{0, 0, 600}}), 3e-5, "large scores");
}

TEST_P(AttentionOps, ChunkingAndBatchMatesChangeNoBit) {
  const Case small = {.heads = 2, .kv_heads = 1, .k_dim = 16, .v_dim = 16};
  compare_chunkings(small, 1100);
  Case c = small;
  c.dtype = DType::kBF16;
  compare_chunkings(c, 700);
  compare_chunkings({.heads = 3, .kv_heads = 1, .k_dim = 33, .v_dim = 17, .dtype = DType::kBF16, .sinks = true}, 300);
  for (const int64_t heads : {1, 2, 4})
    compare_chunkings({.heads = heads, .kv_heads = 1, .k_dim = 80, .v_dim = 144, .dtype = DType::kBF16}, 200);
  compare_chunkings({.heads = 40, .kv_heads = 1, .k_dim = 40, .v_dim = 32, .latent = true, .dtype = DType::kBF16}, 140);
  // Small values, whose products some instructions take as 0.
  compare_chunkings({.kv_heads = 2, .k_dim = 32, .v_dim = 64, .dtype = DType::kBF16, .v_scale = 1e-36f}, 200);
  c = {.heads = 3, .kv_heads = 3, .k_dim = 16, .v_dim = 16, .window = 37};
  compare_chunkings(c, 700);
  c.window = 0;
  c.chunk = 100;
  compare_chunkings(c, 700);
}

TEST_P(AttentionOps, PageSizeChangesNoBit) {
  const Case base = {.heads = 2, .dtype = DType::kBF16};
  const std::vector<Sequence> sequences = {sequence(base, 700)};
  const auto run = [&](int64_t tokens_per_block) {
    Case c = base;
    c.tokens_per_block = tokens_per_block;
    return attend(*backend_, c, sequences, fill(*backend_, c, sequences), {{0, 600, 700}});
  };
  const std::vector<float> expected = run(32);
  for (const int64_t tokens_per_block : {8, 16, 48, 128})
    expect_same_bits(run(tokens_per_block), expected, "page size");
}

// A short sequence leaves shares empty; a window passes over whole pages of a share.
TEST_P(AttentionOps, PartsJoinToTheWhole) {
  for (const int64_t ranks : {2, 3}) {
    for (const int64_t tokens_per_block : {2, 8, 32})
      compare({.tokens_per_block = tokens_per_block, .sinks = ranks == 3, .ranks = ranks}, {1, 7, 130}, 130);
    for (const int64_t window : {9, 70})
      compare({.tokens_per_block = 16, .window = window, .sinks = true, .ranks = ranks}, {40, 200}, 70);
    compare({.tokens_per_block = 16, .chunk = 50, .ranks = ranks}, {40, 200}, 70);
    compare({.heads = 8,
             .kv_heads = 1,
             .k_dim = 40,
             .v_dim = 33,
             .latent = true,
             .dtype = DType::kBF16,
             .tokens_per_block = 8,
             .ranks = ranks},
            {5, 600}, 7);
  }
}

TEST_P(AttentionOps, ChunkingAndBatchMatesChangeNoBitOfJoinedParts) {
  const Case c = {.heads = 3,
                  .kv_heads = 1,
                  .k_dim = 33,
                  .v_dim = 17,
                  .dtype = DType::kBF16,
                  .tokens_per_block = 8,
                  .sinks = true,
                  .ranks = 3};
  compare_chunkings(c, 300);
  Case window = c;
  window.window = 11;
  compare_chunkings(window, 300);
}

// A decode that is cut into segments for the threads, and a prefill, against one thread of the plain path (or of the path itself, where it
// rounds).
TEST_P(AttentionOps, ThreadsAndInstructionSetsChangeNoBit) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    const Case c = {.heads = 6, .kv_heads = 1, .k_dim = 40, .v_dim = 100, .dtype = dtype, .sinks = true};
    const std::string isa = rounds(c) ? GetParam().isa : "plain";
    const std::unique_ptr<Backend> other = make_backend({.device = "cpu", .isa = isa, .threads = 1, .cores = {}});
    const std::vector<Sequence> sequences = {sequence(c, 1600), sequence(c, 30)};
    const std::vector<Piece> pieces = {{0, 1595, 1600}, {1, 0, 30}};
    expect_same_bits(attend(*backend_, c, sequences, fill(*backend_, c, sequences), pieces),
                     attend(*other, c, sequences, fill(*other, c, sequences), pieces), isa);
  }
}

SHOAL_INSTANTIATE_OPS(AttentionOps);

}  // namespace
}  // namespace shoal
