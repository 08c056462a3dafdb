// SPDX-License-Identifier: Apache-2.0
#include "model/context_parallel.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "base/whole.h"

namespace shoal {

namespace {

// The pages of one share that a phase's rows see, as they are sent: sequence after sequence.
struct PackedPages {
  std::vector<int32_t> ids;     // on the rank that holds them
  std::vector<int64_t> first;   // by sequence: index of the first among the share's pages of that sequence
  std::vector<int64_t> offset;  // by sequence: where it is in `ids`
  std::vector<int64_t> held;    // by sequence: pages of the share, unseen ones included

  // Where the share's pages of a sequence lie, packed from `base` on; -1 for those that nobody sees.
  std::vector<int32_t> places(int64_t sequence, int64_t base) const {
    const auto s = static_cast<size_t>(sequence);
    std::vector<int32_t> result(static_cast<size_t>(held[s]), -1);
    for (int64_t i = first[s]; i < held[s]; ++i)
      result[static_cast<size_t>(i)] = static_cast<int32_t>(base + offset[s] + i - first[s]);
    return result;
  }
};

// Indices of the rows for each rank, rank 0's first, and how many they are.
struct Sending {
  std::vector<int32_t> indices;
  std::vector<int64_t> rows;
};

class ContextAttention {
 public:
  ContextAttention(const Attention& attention, const KvLayer& kv, const StepContext& step)
      : attention_(attention),
        kv_(kv),
        step_(step),
        context_(*step.context),
        slots_(step.batch.kv[static_cast<size_t>(attention.pool())].slots),
        spans_(step.batch.kv[static_cast<size_t>(attention.pool())].spans),
        backend_(step.backend),
        ranks_(context_.share.ranks),
        rank_(context_.share.rank) {}

  Partial<Axis::kAttn> operator()(const Tensor& x) {
    const ContextPhase &prompt = context_.prompt, &generated = context_.generated;
    std::vector<int32_t> rows = rows_of(projected(prompt));
    const auto prompt_rows = static_cast<int64_t>(rows.size());
    for (const int32_t row : rows_of(projected(generated))) rows.push_back(row);
    std::vector<int32_t> positions;
    for (const int32_t row : rows) positions.push_back(step_.batch.positions[static_cast<size_t>(row)]);
    const Attention::Projection all = attention_.project(backend_.gather_rows(x, rows), positions, step_);
    const Attention::Projection ours[] = {slice(all, 0, prompt_rows), slice(all, prompt_rows, std::ssize(rows))};
    // Everything is in the cache before anything is read.
    write(prompt, ours[0]);
    write(generated, ours[1]);
    sum_ = backend_.zeros(DType::kF32, x.shape());
    run(prompt, ours[0].q);
    run(generated, ours[1].q);
    return Partial<Axis::kAttn>(sum_);
  }

 private:
  const std::vector<RowRun>& projected(const ContextPhase& phase) const {
    return phase.projected[static_cast<size_t>(rank_)];
  }
  int64_t block() const { return kv_.tokens_per_block(); }
  PageShare share_of(int64_t rank) const { return {rank, ranks_}; }
  Range head_part(int64_t rank) const { return attention_.head_part(rank); }
  Comm& comm() const { return step_.cp.comm(); }

  static Attention::Projection slice(const Attention::Projection& all, int64_t begin, int64_t end) {
    const auto rows = [&](const Tensor& t) { return t.defined() ? t.slice_rows(begin, end) : t; };
    return {rows(all.q), rows(all.k), rows(all.v)};
  }

  void run(const ContextPhase& phase, const Tensor& q) {
    if (phase.empty()) return;
    if (phase.scheme == ContextScheme::kHelix) return helix(phase, q);
    int64_t row = 0;
    for (const Range& sequences : gathered_together(phase)) {
      const ContextPhase some = phase.of(sequences);
      const int64_t begin = std::exchange(row, row + std::ssize(rows_of(projected(some))));
      if (phase.scheme == ContextScheme::kRing) ring(some, q.slice_rows(begin, row));
      if (phase.scheme == ContextScheme::kUlysses) ulysses(some, q.slice_rows(begin, row));
    }
  }

  // Ring and Ulysses gather the pages that they read: at a time no more than those of one sequence of the greatest length, which is
  // what a step is planned to take (model/step_memory.h).
  std::vector<Range> gathered_together(const ContextPhase& phase) const {
    std::vector<int64_t> pages;
    for (const RowRun& run : phase.rows) pages.push_back(visible_pages(run.context, run.rows).size());
    const int64_t longest = context_.most_positions;
    const int64_t most = visible_pages(longest, std::min(longest, context_.most_rows)).size();
    return page_runs(pages, attention_.by_sequence(phase.prompt, step_) ? 0 : most, ranks_);
  }

  // --- keys and values to their pages

  bool holds(int32_t batch_row, int64_t rank) const {
    return share_of(rank).holds_page(step_.batch.positions[static_cast<size_t>(batch_row)] / block());
  }
  // Which of the rows that `from` projects lie on pages of `to`: their indices, and their slots.
  void select(const std::vector<int32_t>& rows, int64_t to, std::vector<int32_t>& indices,
              std::vector<int32_t>& slots) const {
    for (size_t i = 0; i < rows.size(); ++i) {
      if (!holds(rows[i], to)) continue;
      indices.push_back(static_cast<int32_t>(i));
      slots.push_back(slots_[static_cast<size_t>(rows[i])]);
    }
  }

  void write(const ContextPhase& phase, const Attention::Projection& ours) {
    if (phase.empty()) return;
    if (phase.scheme == ContextScheme::kHelix) {  // every rank has all rows
      std::vector<int32_t> indices, slots;
      select(rows_of(projected(phase)), rank_, indices, slots);
      backend_.kv_write(kv_, backend_.gather_rows(ours.k, indices),
                        ours.v.defined() ? backend_.gather_rows(ours.v, indices) : Tensor(), slots);
      return;
    }
    Sending sending;
    std::vector<int32_t> slots, unused;
    std::vector<int64_t> received;
    const std::vector<int32_t> own = rows_of(projected(phase));
    for (int64_t rank = 0; rank < ranks_; ++rank) {
      const auto before = std::ssize(sending.indices);
      select(own, rank, sending.indices, unused);
      sending.rows.push_back(std::ssize(sending.indices) - before);
      const auto slots_before = std::ssize(slots);
      std::vector<int32_t> theirs;
      select(rows_of(phase.projected[static_cast<size_t>(rank)]), rank_, theirs, slots);
      received.push_back(std::ssize(slots) - slots_before);
    }
    std::vector<Tensor> in = {ours.k};
    if (ours.v.defined()) in.push_back(ours.v);
    const std::vector<Tensor> out = exchange(in, sending, received);
    backend_.kv_write(kv_, out[0], ours.v.defined() ? out[1] : Tensor(), slots);
  }

  // One all-to-all of rows; what comes, in rank order.
  std::vector<Tensor> exchange(const std::vector<Tensor>& in, const Sending& sending,
                               const std::vector<int64_t>& received) {
    const int64_t rows = std::accumulate(received.begin(), received.end(), int64_t{0});
    std::vector<Tensor> from, out;
    for (const Tensor& t : in) {
      // No indices would mean all rows.
      from.push_back(sending.indices.empty() ? t.slice_rows(0, 0) : t);
      out.push_back(backend_.empty(t.dtype(),
                                   t.shape().rank() == 3 ? Shape{rows, t.size(1), t.size(2)} : Shape{rows, t.size(1)}));
    }
    comm().all_to_all_rows(
        {.in = from, .indices = sending.indices, .send_rows = sending.rows, .out = out, .receive_rows = received});
    return out;
  }

  // --- pages

  const std::vector<int32_t>& pages_of(const ContextPhase& phase, int64_t sequence) const {
    return spans_[phase.spans[static_cast<size_t>(sequence)]].pages;
  }
  int64_t first_visible(int64_t position) const {
    const AttentionLayer& layer = attention_.layer();
    int64_t first = 0;
    if (layer.window > 0) first = std::max(first, position - layer.window + 1);
    if (layer.chunk > 0) first = std::max(first, position / layer.chunk * layer.chunk);
    return first;
  }

  // Pages that some of the last `rows` of `context` positions see.
  Range visible_pages(int64_t context, int64_t rows) const {
    return {first_visible(context - rows) / block(), ceil_div(context, block())};
  }

  PackedPages pack(const ContextPhase& phase, const PageShare& share) const {
    PackedPages packed;
    for (const RowRun& run : phase.rows) {
      const std::vector<int32_t>& pages = pages_of(phase, run.sequence);
      const Range visible = visible_pages(run.context, run.rows);
      packed.first.push_back(share.pages_before(visible.begin));
      packed.held.push_back(share.pages_before(visible.end));
      packed.offset.push_back(std::ssize(packed.ids));
      for (int64_t i = packed.first.back(); i < packed.held.back(); ++i)
        packed.ids.push_back(pages[static_cast<size_t>(i * share.ranks + share.rank)]);
    }
    return packed;
  }

  // Spans of the runs, their rows one after the other from `row` on; `pages` by sequence.
  void add_spans(const std::vector<RowRun>& runs, int64_t row, const std::vector<std::vector<int32_t>>& pages,
                 std::vector<SequenceSpan>& spans) const {
    for (const RowRun& run : runs) {
      spans.push_back({.row_begin = row,
                       .rows = run.rows,
                       .context = run.context,
                       .prompt_rows = 0,
                       .pages = pages[static_cast<size_t>(run.sequence)]});
      row += run.rows;
    }
  }

  // --- ring

  void ring(const ContextPhase& phase, const Tensor& q) {
    const int64_t next = (rank_ + 1) % ranks_, previous = (rank_ + ranks_ - 1) % ranks_;
    const std::vector<RowRun>& runs = projected(phase);
    std::vector<AttentionPart> parts(static_cast<size_t>(ranks_));
    PackedPages pages = pack(phase, context_.share);
    KvLayer travelling{backend_.gather_rows(kv_.k, pages.ids),
                       kv_.v.defined() ? backend_.gather_rows(kv_.v, pages.ids) : Tensor()};
    for (int64_t s = 0, source = rank_; s < ranks_; ++s, source = (source + ranks_ - 1) % ranks_) {
      const bool last = s + 1 == ranks_;
      if (!last) send(travelling, next);
      if (!runs.empty()) {
        std::vector<SequenceSpan> spans;
        std::vector<std::vector<int32_t>> places;
        for (int64_t i = 0; i < std::ssize(phase.spans); ++i) places.push_back(pages.places(i, 0));
        add_spans(runs, 0, places, spans);
        parts[static_cast<size_t>(source)] = attention_.part(
            {q, {0, attention_.heads()}, travelling, std::move(spans), share_of(source), phase.prompt}, step_);
      }
      if (last) break;
      pages = pack(phase, share_of((source + ranks_ - 1) % ranks_));
      travelling = receive(std::ssize(pages.ids), previous);
    }
    if (runs.empty()) return;
    const Tensor* sinks = attention_.sinks();
    const Tensor joined = backend_.attention_join(parts, sinks ? *sinks : Tensor());
    add_rows(rows_of(runs),
             attention_.output(attention_.values(joined, {0, attention_.heads()}, phase.prompt, step_), backend_));
  }

  void send(const KvLayer& layer, int64_t peer) {
    if (layer.k.rows() > 0) comm().send(tensors_of(layer), static_cast<int>(peer));
  }

  KvLayer receive(int64_t pages, int64_t peer) {
    const auto like = [&](const Tensor& t) {
      return t.defined() ? backend_.empty(t.dtype(), {pages, t.size(1), t.size(2), t.size(3)}) : Tensor();
    };
    const KvLayer layer{like(kv_.k), like(kv_.v)};
    if (pages > 0) comm().receive(tensors_of(layer), static_cast<int>(peer));
    return layer;
  }

  static std::vector<Tensor> tensors_of(const KvLayer& layer) {
    if (layer.v.defined()) return {layer.k, layer.v};
    return {layer.k};
  }

  // --- ulysses

  void ulysses(const ContextPhase& phase, const Tensor& q) {
    const Range heads = head_part(rank_);
    const Tensor our_q = queries_of_heads(phase, q);
    std::vector<std::vector<int32_t>> pages;
    const KvLayer whole = cache_of_heads(phase, pages);
    if (heads.size() == 0) return;
    std::vector<SequenceSpan> spans;
    std::vector<int32_t> rows;
    for (const std::vector<RowRun>& runs : phase.projected) {
      add_spans(runs, std::ssize(rows), pages, spans);
      for (const int32_t row : rows_of(runs)) rows.push_back(row);
    }
    const AttentionPart part =
        attention_.part({our_q, heads, whole, std::move(spans), PageShare{}, phase.prompt}, step_);
    add_heads(rows, join({&part, 1}), phase.prompt);
  }

  // Queries of this rank's heads for all rows: [rows, head_part, q_dim], those that rank 0 projected first.
  Tensor queries_of_heads(const ContextPhase& phase, const Tensor& q) {
    const int64_t heads = attention_.heads(), dim = q.size(2), ours = head_part(rank_).size();
    Sending sending;
    std::vector<int64_t> received;
    for (int64_t rank = 0; rank < ranks_; ++rank) {
      add_head_rows(sending, q.rows(), heads, head_part(rank));
      received.push_back(static_cast<int64_t>(rows_of(phase.projected[static_cast<size_t>(rank)]).size()) * ours);
    }
    const Tensor flat = backend_.concat_columns(std::array{q.view({q.rows(), heads * dim})});
    const Tensor out = exchange({flat.view({q.rows() * heads, dim})}, sending, received)[0];
    return ours > 0 ? out.view({out.rows() / ours, ours, dim}) : out;
  }

  // Of [rows, heads] rows, those of some heads.
  static void add_head_rows(Sending& sending, int64_t rows, int64_t heads, Range part) {
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t head = part.begin; head < part.end; ++head)
        sending.indices.push_back(static_cast<int32_t>(row * heads + head));
    sending.rows.push_back(rows * part.size());
  }

  // The KV heads that this rank's heads read, of every position that the phase's rows see; `pages`: by sequence, in position order.
  KvLayer cache_of_heads(const ContextPhase& phase, std::vector<std::vector<int32_t>>& pages) {
    const int64_t kv_heads = kv_.k.size(1);
    Sending sending;
    const PackedPages own = pack(phase, context_.share);
    for (int64_t rank = 0; rank < ranks_; ++rank) {
      const std::vector<int64_t> wanted = kv_heads_of(head_part(rank), attention_.heads(), kv_heads);
      for (const int32_t page : own.ids)
        for (const int64_t head : wanted) sending.indices.push_back(static_cast<int32_t>(page * kv_heads + head));
      sending.rows.push_back(std::ssize(own.ids) * std::ssize(wanted));
    }
    const int64_t ours = std::ssize(kv_heads_of(head_part(rank_), attention_.heads(), kv_heads));
    pages.assign(phase.spans.size(), {});
    std::vector<int64_t> received;
    int64_t total = 0;
    std::vector<std::vector<std::vector<int32_t>>> places(phase.spans.size());  // by sequence, rank
    for (int64_t rank = 0; rank < ranks_; ++rank) {
      const PackedPages theirs = pack(phase, share_of(rank));
      for (size_t i = 0; i < places.size(); ++i) places[i].push_back(theirs.places(static_cast<int64_t>(i), total));
      total += std::ssize(theirs.ids);
      received.push_back(std::ssize(theirs.ids) * ours);
    }
    for (size_t i = 0; i < places.size(); ++i) {
      const int64_t count = ceil_div(phase.rows[i].context, block());
      for (int64_t page = 0; page < count; ++page)
        pages[i].push_back(places[i][static_cast<size_t>(page % ranks_)][static_cast<size_t>(page / ranks_)]);
    }
    const auto by_head = [&](const Tensor& t) { return t.view({t.rows() * kv_heads, t.size(2) * t.size(3)}); };
    std::vector<Tensor> in = {by_head(kv_.k)};
    if (kv_.v.defined()) in.push_back(by_head(kv_.v));
    const std::vector<Tensor> out = exchange(in, sending, received);
    const auto paged = [&](const Tensor& t, const Tensor& like) {
      return t.view({total, ours, like.size(2), like.size(3)});
    };
    if (ours == 0) return {};
    return {paged(out[0], kv_.k), kv_.v.defined() ? paged(out[1], kv_.v) : Tensor()};
  }

  // --- helix

  void helix(const ContextPhase& phase, const Tensor& q) {
    const int64_t heads = attention_.heads(), rows = q.rows();
    std::vector<SequenceSpan> spans;
    std::vector<std::vector<int32_t>> pages;
    for (int64_t sequence = 0; sequence < std::ssize(phase.spans); ++sequence) {
      const std::vector<int32_t>& all = pages_of(phase, sequence);
      pages.emplace_back();
      for (int64_t page = rank_; page < std::ssize(all); page += ranks_)
        pages.back().push_back(all[static_cast<size_t>(page)]);
    }
    add_spans(projected(phase), 0, pages, spans);
    const AttentionPart part =
        attention_.part({q, {0, heads}, kv_, std::move(spans), context_.share, phase.prompt}, step_);
    const std::vector<AttentionPart> parts = parts_of_heads(part, rows);
    if (head_part(rank_).size() > 0) add_heads(rows_of(projected(phase)), join(parts), phase.prompt);
  }

  // Every rank's part of the same rows, for this rank's heads.
  std::vector<AttentionPart> parts_of_heads(const AttentionPart& part, int64_t rows) {
    const int64_t heads = attention_.heads(), ours = head_part(rank_).size(), dim = part.values.size(2);
    Sending sending;
    for (int64_t rank = 0; rank < ranks_; ++rank) add_head_rows(sending, rows, heads, head_part(rank));
    const std::vector<int64_t> received(static_cast<size_t>(ranks_), rows * ours);
    const auto flat = [&](const Tensor& t, int64_t n) { return t.view({rows * heads, n}); };
    const std::vector<Tensor> out =
        exchange({flat(part.values, dim), flat(part.maxima, 1), flat(part.sums, 1)}, sending, received);
    std::vector<AttentionPart> parts;
    for (int64_t rank = 0; rank < ranks_ && ours > 0; ++rank) {
      const auto of_rank = [&](const Tensor& t) { return t.slice_rows(rank * rows * ours, (rank + 1) * rows * ours); };
      parts.push_back({of_rank(out[0]).view({rows, ours, dim}), of_rank(out[1]).view({rows, ours}),
                       of_rank(out[2]).view({rows, ours})});
    }
    return parts;
  }

  // --- what the schemes end with

  // Parts of this rank's heads.
  Tensor join(std::span<const AttentionPart> parts) const {
    const Tensor* sinks = attention_.sinks();
    const Range heads = head_part(rank_);
    return backend_.attention_join(parts, sinks ? sinks->slice_rows(heads.begin, heads.end) : Tensor());
  }

  void add_heads(const std::vector<int32_t>& rows, const Tensor& joined, bool prompt) {
    const Tensor values = attention_.values(joined, head_part(rank_), prompt, step_);
    add_rows(rows, attention_.output_part(values, rank_, backend_));
  }

  void add_rows(const std::vector<int32_t>& rows, const Tensor& term) { backend_.scatter_rows(sum_, rows, term); }

  const Attention& attention_;
  const KvLayer& kv_;
  const StepContext& step_;
  const ContextStep& context_;
  const std::vector<int32_t>& slots_;
  const std::vector<SequenceSpan>& spans_;
  Backend& backend_;
  int64_t ranks_;
  int64_t rank_;
  Tensor sum_;  // f32 [tokens, hidden]: this rank's terms; 0 for rows of others
};

}  // namespace

Partial<Axis::kAttn> context_parallel_attention(const Attention& attention, const Tensor& x, const KvLayer& kv,
                                                const StepContext& step) {
  return ContextAttention(attention, kv, step)(x);
}

}  // namespace shoal
