// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/gemm_run.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/whole.h"

namespace shoal {
namespace {

// Cost is counted in bytes read from memory.
constexpr int64_t kFlopsPerByteF32 = 8;
constexpr int64_t kGrainCost = 64 << 10;  // some microseconds
constexpr int64_t kBlocksPerThread = 4;

// One product's blocks on the scale of costs: block i of [0, panels * row_blocks) begins at `begin + i * cost`. Blocks of the same panel
// follow one another, so that its weights are read once.
struct Share {
  const GemmProduct* product = nullptr;
  int64_t rows = 0;  // of a block, but the last
  int64_t row_blocks = 0;
  int64_t cost = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

Share share_of(const GemmKernels& kernels, const GemmProduct& product, int threads) {
  Share share{.product = &product};
  const int64_t panels = product.w.panels;
  int64_t row_blocks = ceil_div(product.rows, kernels.row_block);
  if (threads > 1 && panels * row_blocks < kBlocksPerThread * threads) {  // too few blocks to share: make rows lower
    const int64_t wanted = ceil_div(kBlocksPerThread * threads, panels);
    row_blocks = std::max(row_blocks, std::min(wanted, product.rows / (8 * kernels.row_tile)));
  }
  const int64_t tiles = ceil_div(ceil_div(product.rows, row_blocks), kernels.row_tile);
  share.rows = std::min<int64_t>(tiles * kernels.row_tile, kernels.row_block);
  share.row_blocks = ceil_div(product.rows, share.rows);
  const int64_t weights = product.w.panel_words * (product.w.bf16 ? 2 : 1);
  const int64_t reading = product.w.panel_words * 4 / share.row_blocks;
  const int64_t flops_per_byte = product.w.bf16 ? kernels.flops_per_byte_bf16 : kFlopsPerByteF32;
  share.cost = std::max<int64_t>(reading + 2 * weights * std::min(share.rows, product.rows) / flops_per_byte, 1);
  return share;
}

// Places to compute, and up to where this thread goes on afterwards, as far as is known.
struct Stretch {
  Range places;
  int64_t follows;
};

// The blocks whose place lies in the stretch. `after`: the next product's weights, or null.
void run_share(const GemmKernels& kernels, const Share& share, const Stretch& stretch, const void* after,
               float* scratch) {
  const GemmProduct& product = *share.product;
  const int64_t blocks = product.w.panels * share.row_blocks;
  const auto block_at = [&](int64_t place) {
    return std::min(ceil_div(std::max(place - share.begin, int64_t{0}), share.cost), blocks);
  };
  const int64_t last = block_at(stretch.places.end), follows = block_at(stretch.follows);
  for (int64_t i = block_at(stretch.places.begin); i < last; ++i) {
    const int64_t panel = i / share.row_blocks, row = i % share.row_blocks * share.rows;
    GemmBlock block{.panel = panel,
                    .row = row,
                    .rows = std::min(share.rows, product.rows - row),
                    .next = nullptr,
                    .far = fetches_far(),
                    .scratch = scratch};
    if (row > 0 && (panel + 1) * share.row_blocks < follows) {
      const int64_t later = i % share.row_blocks - 1, laters = share.row_blocks - 1, bytes = product.w.panel_words * 4;
      block.soon = reinterpret_cast<const char*>(product.w.data) + (panel + 1) * bytes + bytes * later / laters;
      block.soon_bytes = bytes / laters;
    }
    if (i + 1 == blocks) {
      block.next = after;
    } else if (i + 1 < follows && (i + 1) / share.row_blocks > panel) {
      block.next = product.w.data + (panel + 1) * product.w.panel_words;
    }
    kernels.multiply(product, block);
  }
}

}  // namespace

const GemmKernels& gemm_kernels(Isa isa) {
#if defined(__x86_64__)
  return *select_isa(isa, &kGemmPlain, &kGemmAvx2, &kGemmAvx512, &kGemmAvx512Bf16, &kGemmAmx, &kGemmAmxBf16);
#else
  (void)isa;
  return kGemmPlain;
#endif
}

void GemmRunner::run(std::span<const GemmProduct> products) const {
  std::vector<Share> shares;
  shares.reserve(products.size());
  int64_t total = 0;
  for (const GemmProduct& product : products) {
    if (product.rows == 0 || product.w.panels == 0) continue;
    Share& share = shares.emplace_back(share_of(kernels, product, pool.threads()));
    share.begin = total;
    share.end = total += share.cost * product.w.panels * share.row_blocks;
  }
  const int64_t floats = kernels.scratch_floats;
  const auto memory = allocator.allocate(sizeof(float) * static_cast<size_t>(floats * pool.threads()));
  pool.parallel_for(total, kGrainCost, [&](int64_t begin, int64_t end, int thread) {
    float* scratch = static_cast<float*>(memory.get()) + thread * floats;
    const Range own = pool.share(total, kGrainCost, thread);
    const Stretch stretch{{begin, end}, own.begin <= begin && begin < own.end ? own.end : end};
    auto share = std::upper_bound(shares.begin(), shares.end(), begin,
                                  [](int64_t place, const Share& candidate) { return place < candidate.end; });
    for (; share != shares.end() && share->begin < end; ++share) {
      const bool more = share + 1 != shares.end() && (share + 1)->begin < stretch.follows;
      run_share(kernels, *share, stretch, more ? (share + 1)->product->w.data : nullptr, scratch);
    }
  });
}

PackedRows GemmRunner::pack(const RowSource& x, const PackedMatrix& w) const {
  const bool bf16 = w.spec.dtype == DType::kBF16;
  if (!bf16 && !x.scales) {
    CHECK(!x.index);
    return {.memory = nullptr, .data = reinterpret_cast<const uint32_t*>(x.data), .stride = x.stride};
  }
  // The strips of consecutive rows lie in different cache sets, whatever the length of rows.
  const int64_t stride = (w.activation_words() + 127) / 128 * 128 + 144;
  PackedRows packed{
      .memory = allocator.allocate(sizeof(uint32_t) * static_cast<size_t>(std::max<int64_t>(stride * x.rows, 1))),
      .data = nullptr,
      .stride = stride};
  auto* out = static_cast<uint32_t*>(packed.memory.get());
  const std::span<const GemmSegment> segments = w.segments();
  pool.parallel_for(x.rows, kGrainCost / (w.spec.in + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* source = x.data + (x.index ? x.index[row] : row) * x.stride;
      const float scale = x.scales ? x.scales[row] : 1.0f;
      uint32_t* target = out + row * stride;
      if (bf16) {
        kernels.convert_row(source, scale, segments.data(), static_cast<int32_t>(segments.size()), target);
      } else {
        kernels.scale_row(source, scale, w.spec.in, reinterpret_cast<float*>(target));
      }
    }
  });
  packed.data = out;
  return packed;
}

}  // namespace shoal
