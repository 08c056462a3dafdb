// SPDX-License-Identifier: Apache-2.0
// Writing and reading KV pages.
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/elementwise.h"
#include "tensor/float8.h"

namespace shoal {

namespace {

// Element of [page, head, offset, 0] in pages [pages, kv_heads, tokens_per_block, dim].
int64_t page_element(const Tensor& pages, int64_t page, int64_t head, int64_t offset) {
  CHECK(0 <= page && page < pages.rows());
  return page * pages.row_stride() + (head * pages.size(2) + offset) * pages.size(3);
}

void write_row(const RowKernels& kernels, const Tensor& pages, int64_t slot, const float* values) {
  const int64_t tokens_per_block = pages.size(2);
  const int64_t dim = pages.size(3);
  for (int64_t head = 0; head < pages.size(1); ++head, values += dim) {
    const int64_t element = page_element(pages, slot / tokens_per_block, head, slot % tokens_per_block);
    if (pages.dtype() == DType::kBF16) {
      kernels.to_bf16(values, &raw<BFloat16>(pages)[element].bits, dim);
    } else if (pages.dtype() == DType::kF8E4M3) {
      kernels.to_f8(values, &raw<Float8>(pages)[element].bits, dim);
    } else {
      std::memcpy(raw<float>(pages) + element, values, static_cast<size_t>(dim) * sizeof(float));
    }
  }
}

void check_rows(const Tensor& pages, const Tensor& values) {
  CHECK_EQ(values.size(1), pages.size(1));
  CHECK_EQ(values.size(2), pages.size(3));
}

}  // namespace

void CpuBackend::kv_write(const KvLayer& layer, const Tensor& k, const Tensor& v, std::span<const int32_t> slots) {
  CHECK_EQ(k.rows(), static_cast<int64_t>(slots.size()));
  CHECK_EQ(layer.v.defined(), v.defined());
  check_rows(layer.k, k);
  if (v.defined()) check_rows(layer.v, v);
  const RowKernels& kernels = row_kernels(isa_);
  pool_.parallel_for(k.rows(), 1 + 16384 / (k.row_elements() + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int32_t slot = slots[static_cast<size_t>(row)];
      CHECK_GE(slot, 0);
      write_row(kernels, layer.k, slot, raw_row<float>(k, row));
      if (v.defined()) write_row(kernels, layer.v, slot, raw_row<float>(v, row));
    }
  });
}

void CpuBackend::kv_copy(const KvLayer& layer, int32_t from, int32_t to, int64_t tokens) {
  CHECK(0 <= tokens && tokens <= layer.tokens_per_block());
  for (const Tensor& pages : {layer.k, layer.v}) {
    if (!pages.defined()) continue;
    const size_t element = dtype_bytes(pages.dtype());
    const size_t bytes = static_cast<size_t>(tokens * pages.size(3)) * element;
    for (int64_t head = 0; head < pages.size(1); ++head) {
      std::memcpy(RawAccess::bytes(pages) + page_element(pages, to, head, 0) * element,
                  RawAccess::bytes(pages) + page_element(pages, from, head, 0) * element, bytes);
    }
  }
}

Tensor CpuBackend::kv_read(const KvLayer& layer, const SequenceSpan& span) {
  const Tensor& pages = layer.k;
  const int64_t heads = pages.size(1), dim = pages.size(3), tokens_per_block = layer.tokens_per_block();
  CHECK_LE(span.context, static_cast<int64_t>(span.pages.size()) * tokens_per_block);
  const Tensor out = empty(DType::kF32, {span.context, heads * dim});
  const RowKernels& kernels = row_kernels(isa_);
  pool_.parallel_for(span.context, 1 + 16384 / (heads * dim + 1), [&](int64_t begin, int64_t end) {
    for (int64_t position = begin; position < end; ++position) {
      const int32_t page = span.pages[static_cast<size_t>(position / tokens_per_block)];
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t element = page_element(pages, page, head, position % tokens_per_block);
        float* target = raw_row<float>(out, position) + head * dim;
        if (pages.dtype() == DType::kBF16) {
          kernels.from_bf16(&raw<BFloat16>(pages)[element].bits, target, dim);
        } else if (pages.dtype() == DType::kF8E4M3) {
          kernels.from_f8(&raw<Float8>(pages)[element].bits, target, dim);
        } else {
          std::memcpy(target, raw<float>(pages) + element, static_cast<size_t>(dim) * sizeof(float));
        }
      }
    }
  });
  return out;
}

}  // namespace shoal
