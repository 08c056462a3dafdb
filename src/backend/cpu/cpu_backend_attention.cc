// SPDX-License-Identifier: Apache-2.0
// Cuts attention into tiles of query rows and hands them to the threads. A tile's rows are queries of one sequence that read
// the same KV head, position by position, the heads of a position together: K and V are read once for all of them. When there
// are too few tiles for the threads (long decode), segments of 512 positions are computed apart and merged in their order, as
// a single thread does too.
#include <algorithm>

#include "backend/cpu/attention.h"
#include "backend/cpu/cpu_backend.h"
#include "tensor/raw.h"

namespace shoal {

namespace {

struct Tile {
  const SequenceSpan* span;
  int64_t kv_head;
  int64_t row_begin;  // of span.rows * (heads / kv_heads) rows
  int64_t rows;
  Range segments;           // that some row sees
  int64_t first_state = 0;  // split attention: of the states of its segments
};

// A state's floats, rounded up to whole cache lines so that threads never share one.
struct StateLayout {
  int64_t rows;
  int64_t v_dim;
  int64_t floats() const { return round_up_16(rows * (v_dim + 2)); }
  AttentionState at(float* memory) const {
    return {.maximum = memory, .sum = memory + rows, .values = memory + 2 * rows};
  }
};

// Of a row that sees nothing of this share, `last` is first - 1.
struct AttentionJob {
  const Tensor& q;
  const KvLayer& layer;
  const AttentionSpec& spec;
  PageShare share;    // positions below are those that it holds
  AttentionPart out;  // maxima and sums undefined: finished rows go to `values`
};

class AttentionRun {
 public:
  AttentionRun(const AttentionJob& job, std::span<const SequenceSpan> spans)
      : job_(job), q_(job.q), layer_(job.layer), spec_(job.spec), group_(q_.size(1) / layer_.k.size(1)) {
    for (const SequenceSpan& span : spans) add_span(span);
    // Long ones first, so that none is left to the end alone.
    std::stable_sort(tiles_.begin(), tiles_.end(),
                     [](const Tile& a, const Tile& b) { return a.segments.size() > b.segments.size(); });
  }

  void run(ThreadPool& pool, const AttentionKernels& kernels, Backend& backend) {
    const auto count = static_cast<int64_t>(tiles_.size());
    int64_t states = 0;
    for (Tile& tile : tiles_) {
      tile.first_state = states;
      states += tile.segments.size();
    }
    const bool split = pool.threads() > 1 && count < 4 * pool.threads() && states > count;
    if (!split) {
      const Tensor memory = thread_memory(pool, backend, 2 * state_.floats());
      pool.parallel_for(count, 1, [&](int64_t begin, int64_t end, int thread) {
        for (int64_t i = begin; i < end; ++i)
          whole(kernels, tiles_[static_cast<size_t>(i)], raw_row<float>(memory, thread));
      });
      return;
    }
    run_split(pool, kernels, backend, states);
  }

 private:
  struct Piece {
    const Tile* tile;
    int64_t segment;
  };

  void add_span(const SequenceSpan& span) {
    CHECK_LE(held_before(span.context), static_cast<int64_t>(span.pages.size()) * layer_.tokens_per_block());
    CHECK_LE(span.rows, span.context);
    CHECK(0 <= span.row_begin && span.row_begin + span.rows <= q_.rows());
    const int64_t rows = span.rows * group_;
    for (int64_t kv_head = 0; kv_head < layer_.k.size(1); ++kv_head)
      for (int64_t begin = 0; begin < rows; begin += kAttentionTileRows) {
        Tile tile = {.span = &span,
                     .kv_head = kv_head,
                     .row_begin = begin,
                     .rows = std::min(kAttentionTileRows, rows - begin),
                     .segments = {}};
        const QueryRow first = query(tile, 0), last = query(tile, tile.rows - 1);
        // At least one, which makes an empty state where nothing is seen.
        const int64_t segment = first.first / kAttentionSegment;
        tile.segments = {segment, std::max(segment, last.last / kAttentionSegment) + 1};
        tiles_.push_back(tile);
      }
  }

  int64_t held_before(int64_t position) const { return job_.share.held_before(position, layer_.tokens_per_block()); }
  int64_t batch_row(const Tile& tile, int64_t row) const {
    return tile.span->row_begin + (tile.row_begin + row) / group_;
  }
  int64_t head(const Tile& tile, int64_t row) const { return tile.kv_head * group_ + (tile.row_begin + row) % group_; }

  QueryRow query(const Tile& tile, int64_t row) const {
    const int64_t position = tile.span->context - tile.span->rows + (tile.row_begin + row) / group_;
    int64_t first = 0;
    if (spec_.window > 0) first = std::max(first, position - spec_.window + 1);
    if (spec_.chunk > 0) first = std::max(first, position / spec_.chunk * spec_.chunk);
    return {.q = raw_row<float>(q_, batch_row(tile, row)) + head(tile, row) * q_.size(2),
            .first = held_before(first),
            .last = held_before(position + 1) - 1};
  }

  KvSource source(const Tile& tile) const {
    const Tensor& k = layer_.k;
    const bool own_values = layer_.v.defined();
    const Tensor& v = own_values ? layer_.v : k;
    const auto head_start = [&](const Tensor& pages) {
      return RawAccess::bytes(pages) +
             tile.kv_head * pages.size(2) * pages.size(3) * static_cast<int64_t>(dtype_bytes(pages.dtype()));
    };
    return {.k = head_start(k),
            .v = head_start(v),
            .pages = tile.span->pages.data(),
            .tokens_per_block = layer_.tokens_per_block(),
            .k_page_stride = k.row_stride(),
            .v_page_stride = v.row_stride(),
            .k_dim = k.size(3),
            .v_dim = spec_.v_dim,
            .v_row_stride = v.size(3),
            .element = element()};
  }

  KvElement element() const {
    if (layer_.k.dtype() == DType::kBF16) return KvElement::kBF16;
    return layer_.k.dtype() == DType::kF8E4M3 ? KvElement::kF8E4M3 : KvElement::kF32;
  }

  // The tile that a thread takes after this one, as a rule.
  const Tile& after(const Tile& tile) const { return *(&tile == &tiles_.back() ? &tile : &tile + 1); }

  KvStretch first_block(const Tile& tile, const KvSource& source) const {
    const QueryRow row = query(tile, 0);
    const int64_t end = (row.first / kAttentionBlock + 1) * kAttentionBlock;
    return {&source, row.first, std::min(end, row.last + 1)};
  }

  int64_t scratch_floats() const { return attention_scratch_floats(layer_.k.size(3), spec_.v_dim); }

  // [threads, state_floats + scratch]
  Tensor thread_memory(const ThreadPool& pool, Backend& backend, int64_t state_floats) const {
    return backend.empty(DType::kF32, {pool.threads(), state_floats + scratch_floats()});
  }

  void attend(const AttentionKernels& kernels, const Piece& piece, const AttentionState& state, float* scratch) const {
    const Tile& tile = *piece.tile;
    QueryRow rows[kAttentionTileRows];
    for (int64_t row = 0; row < tile.rows; ++row) rows[row] = query(tile, row);
    const KvSource kv = source(tile), kv_after = source(after(tile));
    const AttentionTile seen = {.rows = rows,
                                .count = tile.rows,
                                .source = &kv,
                                .after = first_block(after(tile), kv_after),
                                .scale = spec_.scale,
                                .scratch = scratch};
    const int64_t begin = piece.segment * kAttentionSegment;
    kernels.attend(seen, begin, begin + kAttentionSegment, state);
  }

  void finish(const AttentionKernels& kernels, const Tile& tile, const AttentionState& state) const {
    if (job_.out.maxima.defined()) return copy(tile, state);
    for (int64_t row = 0; row < tile.rows; ++row) {
      const int64_t h = head(tile, row);
      const float* sink = spec_.sinks.defined() ? raw<float>(spec_.sinks) + h : nullptr;
      kernels.finish(state, row, spec_.v_dim, sink,
                     raw_row<float>(job_.out.values, batch_row(tile, row)) + h * spec_.v_dim);
    }
  }

  // Unfinished.
  void copy(const Tile& tile, const AttentionState& state) const {
    const AttentionPart& out = job_.out;
    for (int64_t row = 0; row < tile.rows; ++row) {
      const int64_t h = head(tile, row), to = batch_row(tile, row);
      raw_row<float>(out.maxima, to)[h] = state.maximum[row];
      raw_row<float>(out.sums, to)[h] = state.sum[row];
      std::copy_n(state.values + row * spec_.v_dim, spec_.v_dim, raw_row<float>(out.values, to) + h * spec_.v_dim);
    }
  }

  // All segments of a tile on this thread.
  void whole(const AttentionKernels& kernels, const Tile& tile, float* memory) const {
    const AttentionState total = state_.at(memory), part = state_.at(memory + state_.floats());
    float* scratch = memory + 2 * state_.floats();
    attend(kernels, {&tile, tile.segments.begin}, total, scratch);
    for (int64_t segment = tile.segments.begin + 1; segment < tile.segments.end; ++segment) {
      attend(kernels, {&tile, segment}, part, scratch);
      kernels.merge(total, part, tile.rows, spec_.v_dim);
    }
    finish(kernels, tile, total);
  }

  void run_split(ThreadPool& pool, const AttentionKernels& kernels, Backend& backend, int64_t states) const {
    std::vector<Piece> pieces;
    for (const Tile& tile : tiles_)
      for (int64_t segment = tile.segments.begin; segment < tile.segments.end; ++segment)
        pieces.push_back({&tile, segment});
    const Tensor parts = backend.empty(DType::kF32, {states, state_.floats()});
    const Tensor memory = thread_memory(pool, backend, 0);
    pool.parallel_for(states, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i)
        attend(kernels, pieces[static_cast<size_t>(i)], state_.at(raw_row<float>(parts, i)),
               raw_row<float>(memory, thread));
    });
    pool.parallel_for(static_cast<int64_t>(tiles_.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Tile& tile = tiles_[static_cast<size_t>(i)];
        const AttentionState total = state_.at(raw_row<float>(parts, tile.first_state));
        for (int64_t part = 1; part < tile.segments.size(); ++part)
          kernels.merge(total, state_.at(raw_row<float>(parts, tile.first_state + part)), tile.rows, spec_.v_dim);
        finish(kernels, tile, total);
      }
    });
  }

  const AttentionJob& job_;
  const Tensor& q_;
  const KvLayer& layer_;
  const AttentionSpec& spec_;
  int64_t group_;  // query heads that read one KV head
  StateLayout state_{.rows = kAttentionTileRows, .v_dim = spec_.v_dim};
  std::vector<Tile> tiles_;
};

void check_arguments(const Tensor& q, const KvLayer& layer, const AttentionSpec& spec) {
  CHECK_EQ(q.size(2), layer.k.size(3));
  CHECK_EQ(q.size(1) % layer.k.size(1), 0);
  CHECK_GT(spec.scale, 0.0f);
  if (layer.v.defined()) {
    CHECK_EQ(layer.v.size(3), spec.v_dim);
    CHECK(layer.v.dtype() == layer.k.dtype());
    CHECK_EQ(layer.v.size(2), layer.tokens_per_block());
  } else {
    CHECK_LE(spec.v_dim, layer.k.size(3));
  }
  if (spec.sinks.defined()) CHECK_EQ(spec.sinks.elements(), q.size(1));
}

}  // namespace

Tensor CpuBackend::attention(const Tensor& q, const KvLayer& layer, std::span<const SequenceSpan> spans,
                             const AttentionSpec& spec) {
  check_arguments(q, layer, spec);
  const Tensor out = empty(DType::kF32, {q.rows(), q.size(1), spec.v_dim});
  const AttentionJob job{.q = q, .layer = layer, .spec = spec, .share = {}, .out = {out, {}, {}}};
  AttentionRun(job, spans).run(pool_, attention_kernels(isa_), *this);
  return out;
}

AttentionPart CpuBackend::attention_part(const Tensor& q, const KvLayer& layer, std::span<const SequenceSpan> spans,
                                         const AttentionSpec& spec, const PageShare& share) {
  check_arguments(q, layer, spec);
  CHECK(!spec.sinks.defined());
  const int64_t rows = q.rows(), heads = q.size(1);
  const AttentionPart part = {empty(DType::kF32, {rows, heads, spec.v_dim}), empty(DType::kF32, {rows, heads}),
                              empty(DType::kF32, {rows, heads})};
  const AttentionJob job{.q = q, .layer = layer, .spec = spec, .share = share, .out = part};
  AttentionRun(job, spans).run(pool_, attention_kernels(isa_), *this);
  return part;
}

Tensor CpuBackend::attention_join(std::span<const AttentionPart> parts, const Tensor& sinks) {
  const AttentionPart& total = parts.front();
  const int64_t heads = total.values.size(1), v_dim = total.values.size(2), rows = total.values.rows() * heads;
  if (sinks.defined()) CHECK_EQ(sinks.elements(), heads);
  for (const AttentionPart& part : parts) CHECK(part.values.shape() == total.values.shape());
  const AttentionKernels& kernels = attention_kernels(isa_);
  const auto state_of = [&](const AttentionPart& part, int64_t row) {
    return AttentionState{.maximum = raw<float>(part.maxima) + row,
                          .sum = raw<float>(part.sums) + row,
                          .values = raw<float>(part.values) + row * v_dim};
  };
  pool_.parallel_for(rows, 1 + 16384 / v_dim, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const AttentionState state = state_of(total, row);
      for (const AttentionPart& part : parts.subspan(1)) kernels.merge(state, state_of(part, row), 1, v_dim);
      const float* sink = sinks.defined() ? raw<float>(sinks) + row % heads : nullptr;
      kernels.finish(state, 0, v_dim, sink, state.values);
    }
  });
  return total.values;
}

}  // namespace shoal
