// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "backend/reference/reference_backend.h"
#include "tensor/float8.h"

namespace shoal {

namespace {

// Index of [page, head, offset, 0] in a page tensor.
int64_t element_of(const Tensor& pages, int64_t page, int64_t head, int64_t offset) {
  CHECK(0 <= page && page < pages.rows());
  return page * pages.row_stride() + (head * pages.size(2) + offset) * pages.size(3);
}

void store(const Tensor& pages, int64_t element, const float* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (pages.dtype() == DType::kBF16) {
      raw<BFloat16>(pages)[element + i] = to_bfloat16(values[i]);
    } else if (pages.dtype() == DType::kF8E4M3) {
      raw<Float8>(pages)[element + i] = to_float8(values[i]);
    } else {
      raw<float>(pages)[element + i] = values[i];
    }
  }
}

float load(const Tensor& pages, int64_t element) {
  if (pages.dtype() == DType::kBF16) return to_float(raw<BFloat16>(pages)[element]);
  return pages.dtype() == DType::kF8E4M3 ? f8e4m3_to_float(raw<Float8>(pages)[element].bits)
                                         : raw<float>(pages)[element];
}

int64_t position_element(const Tensor& pages, const SequenceSpan& span, int64_t head, int64_t position) {
  const int64_t tokens_per_block = pages.size(2);
  return element_of(pages, span.pages.at(static_cast<size_t>(position / tokens_per_block)), head,
                    position % tokens_per_block);
}

// First position that a query sees; the last is its own.
int64_t first_visible(int64_t position, const AttentionSpec& spec) {
  int64_t first = 0;
  if (spec.window > 0) first = std::max(first, position - spec.window + 1);
  if (spec.chunk > 0) first = std::max(first, position / spec.chunk * spec.chunk);
  return first;
}

struct Query {
  const float* values;
  int64_t head;
  int64_t kv_head;
  Range sees;  // positions, counted among those that the cache holds
};

// Weights relative to the maximum; minus infinity where nothing was seen.
struct Seen {
  double maximum = -HUGE_VAL;
  double sum = 0.0;
  std::vector<double> values;
};

Seen attend(const Query& query, const KvLayer& layer, const SequenceSpan& span, const AttentionSpec& spec) {
  std::vector<double> scores;
  Seen seen;
  seen.values.resize(static_cast<size_t>(spec.v_dim));
  for (int64_t position = query.sees.begin; position < query.sees.end; ++position) {
    const int64_t element = position_element(layer.k, span, query.kv_head, position);
    double dot = 0.0;
    for (int64_t i = 0; i < layer.k.size(3); ++i) dot += double{query.values[i]} * double{load(layer.k, element + i)};
    scores.push_back(dot * double{spec.scale});
    seen.maximum = std::max(seen.maximum, scores.back());
  }
  const Tensor& values = layer.v.defined() ? layer.v : layer.k;
  for (size_t j = 0; j < scores.size(); ++j) {
    const double weight = std::exp(scores[j] - seen.maximum);
    const int64_t element = position_element(values, span, query.kv_head, query.sees.begin + static_cast<int64_t>(j));
    seen.sum += weight;
    for (size_t i = 0; i < seen.values.size(); ++i)
      seen.values[i] += weight * double{load(values, element + static_cast<int64_t>(i))};
  }
  return seen;
}

void add_scaled(Seen& total, const Seen& part) {
  if (part.maximum == -HUGE_VAL) return;
  const double maximum = std::max(total.maximum, part.maximum);
  const double kept = std::exp(total.maximum - maximum), added = std::exp(part.maximum - maximum);
  total.maximum = maximum;
  total.sum = total.sum * kept + part.sum * added;
  for (size_t i = 0; i < total.values.size(); ++i) total.values[i] = total.values[i] * kept + part.values[i] * added;
}

void finish(const Seen& seen, const Tensor& sinks, int64_t head, float* out) {
  const double sink = sinks.defined() ? std::exp(double{raw<float>(sinks)[head]} - seen.maximum) : 0.0;
  for (size_t i = 0; i < seen.values.size(); ++i) out[i] = static_cast<float>(seen.values[i] / (seen.sum + sink));
}

// done(row, head, what it saw) for every row of every span.
template <typename Done>
void attend_all(const Tensor& q, const KvLayer& layer, std::span<const SequenceSpan> spans, const AttentionSpec& spec,
                const PageShare& share, const Done& done) {
  const int64_t heads = q.size(1);
  CHECK_EQ(q.size(2), layer.k.size(3));
  CHECK_EQ(heads % layer.k.size(1), 0);
  for (const SequenceSpan& span : spans)
    for (int64_t i = 0; i < span.rows; ++i)
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t row = span.row_begin + i, position = span.context - span.rows + i;
        const Query query = {.values = raw_row<float>(q, row) + head * q.size(2),
                             .head = head,
                             .kv_head = head / (heads / layer.k.size(1)),
                             .sees = {share.held_before(first_visible(position, spec), layer.tokens_per_block()),
                                      share.held_before(position + 1, layer.tokens_per_block())}};
        done(row, head, attend(query, layer, span, spec));
      }
}

}  // namespace

void ReferenceBackend::kv_write(const KvLayer& layer, const Tensor& k, const Tensor& v,
                                std::span<const int32_t> slots) {
  CHECK_EQ(k.rows(), static_cast<int64_t>(slots.size()));
  CHECK_EQ(layer.v.defined(), v.defined());
  for (int64_t row = 0; row < k.rows(); ++row) {
    const int64_t page = slots[static_cast<size_t>(row)] / layer.tokens_per_block();
    const int64_t offset = slots[static_cast<size_t>(row)] % layer.tokens_per_block();
    for (int64_t head = 0; head < k.size(1); ++head) {
      store(layer.k, element_of(layer.k, page, head, offset), raw_row<float>(k, row) + head * k.size(2), k.size(2));
      if (!v.defined()) continue;
      store(layer.v, element_of(layer.v, page, head, offset), raw_row<float>(v, row) + head * v.size(2), v.size(2));
    }
  }
}

void ReferenceBackend::kv_copy(const KvLayer& layer, int32_t from, int32_t to, int64_t tokens) {
  for (const Tensor& pages : {layer.k, layer.v}) {
    if (!pages.defined()) continue;
    for (int64_t head = 0; head < pages.size(1); ++head)
      for (int64_t row = 0; row < tokens; ++row)
        for (int64_t i = 0; i < pages.size(3); ++i) {
          const float value = load(pages, element_of(pages, from, head, row) + i);
          store(pages, element_of(pages, to, head, row) + i, &value, 1);
        }
  }
}

Tensor ReferenceBackend::kv_read(const KvLayer& layer, const SequenceSpan& span) {
  const int64_t heads = layer.k.size(1);
  const int64_t dim = layer.k.size(3);
  const Tensor out = empty(DType::kF32, {span.context, heads * dim});
  for (int64_t position = 0; position < span.context; ++position)
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t element = position_element(layer.k, span, head, position);
      for (int64_t i = 0; i < dim; ++i) raw_row<float>(out, position)[head * dim + i] = load(layer.k, element + i);
    }
  return out;
}

Tensor ReferenceBackend::attention(const Tensor& q, const KvLayer& layer, std::span<const SequenceSpan> spans,
                                   const AttentionSpec& spec) {
  const Tensor out = empty(DType::kF32, {q.rows(), q.size(1), spec.v_dim});
  attend_all(q, layer, spans, spec, PageShare{}, [&](int64_t row, int64_t head, const Seen& seen) {
    finish(seen, spec.sinks, head, raw_row<float>(out, row) + head * spec.v_dim);
  });
  return out;
}

AttentionPart ReferenceBackend::attention_part(const Tensor& q, const KvLayer& layer,
                                               std::span<const SequenceSpan> spans, const AttentionSpec& spec,
                                               const PageShare& share) {
  CHECK(!spec.sinks.defined());
  const Shape shape{q.rows(), q.size(1)};
  const AttentionPart part = {empty(DType::kF32, {q.rows(), q.size(1), spec.v_dim}), empty(DType::kF32, shape),
                              empty(DType::kF32, shape)};
  attend_all(q, layer, spans, spec, share, [&](int64_t row, int64_t head, const Seen& seen) {
    raw_row<float>(part.maxima, row)[head] = static_cast<float>(seen.maximum);
    // The maximum was rounded: what is relative to it follows.
    const bool nothing = seen.maximum == -HUGE_VAL;
    const double factor = nothing ? 0.0 : std::exp(seen.maximum - double{raw_row<float>(part.maxima, row)[head]});
    raw_row<float>(part.sums, row)[head] = static_cast<float>(seen.sum * factor);
    for (int64_t i = 0; i < spec.v_dim; ++i)
      raw_row<float>(part.values, row)[head * spec.v_dim + i] =
          static_cast<float>(seen.values[static_cast<size_t>(i)] * factor);
  });
  return part;
}

Tensor ReferenceBackend::attention_join(std::span<const AttentionPart> parts, const Tensor& sinks) {
  const Tensor& out = parts.front().values;
  const int64_t heads = out.size(1), v_dim = out.size(2);
  for (int64_t row = 0; row < out.rows(); ++row)
    for (int64_t head = 0; head < heads; ++head) {
      Seen total;
      total.values.resize(static_cast<size_t>(v_dim));
      for (const AttentionPart& part : parts) {
        const float* values = raw_row<float>(part.values, row) + head * v_dim;
        add_scaled(total, {.maximum = raw_row<float>(part.maxima, row)[head],
                           .sum = raw_row<float>(part.sums, row)[head],
                           .values = std::vector<double>(values, values + v_dim)});
      }
      finish(total, sinks, head, raw_row<float>(out, row) + head * v_dim);
    }
  return out;
}

}  // namespace shoal
