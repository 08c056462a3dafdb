// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/views.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "comm/tree_sum.h"

namespace shoal {
namespace {

// A view as float runs: `run` elements lie together, then `stride` elements further on the next ones.
struct Runs {
  explicit Runs(const View& view)
      : data(reinterpret_cast<float*>(view.data)),
        run(std::max<int64_t>(1, view.contiguous() ? view.floats() : view.row_bytes / 4)),
        stride(view.contiguous() ? run : view.stride / 4) {}
  float* at(int64_t element) const { return data + element / run * stride + element % run; }
  int64_t left(int64_t element) const { return run - element % run; }

  float* data;
  int64_t run;
  int64_t stride;
};

constexpr int64_t kBlock = 1024;  // floats summed before they are copied to several targets

}  // namespace

View View::of(const Tensor& tensor) {
  const int64_t width = static_cast<int64_t>(dtype_bytes(tensor.dtype()));
  return {.data = RawAccess::bytes(tensor),
          .rows = tensor.rows(),
          .row_bytes = tensor.row_elements() * width,
          .stride = tensor.row_stride() * width,
          .dtype = tensor.dtype()};
}

View View::slice(int64_t begin, int64_t count) const {
  View result = *this;
  result.rows = count;
  if (count > 0) result.data += begin * stride;
  return result;
}

void copy_rows(const View& from, const View& to) {
  if (from.bytes() == 0 || (from.data == to.data && from.stride == to.stride)) return;
  if (from.contiguous() && to.contiguous()) {
    std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
    return;
  }
  for (int64_t row = 0; row < from.rows; ++row) {
    std::memcpy(to.data + row * to.stride, from.data + row * from.stride, static_cast<size_t>(from.row_bytes));
  }
}

void gather_rows(const View& from, std::span<const int32_t> indices, const View& to) {
  if (from.row_bytes == 0) return;
  std::byte* target = to.data;
  for (const int32_t index : indices) {
    std::memcpy(target, from.data + index * from.stride, static_cast<size_t>(from.row_bytes));
    target += to.stride;
  }
}

void sum_views(std::span<const View> terms, std::span<const View> targets, int64_t begin, int64_t end) {
  const std::vector<Runs> sources(terms.begin(), terms.end());
  const std::vector<Runs> sinks(targets.begin(), targets.end());
  std::vector<const float*> pointers(terms.size());
  std::array<float, kBlock> block;
  int64_t count = 0;
  for (int64_t element = begin; element < end; element += count) {
    count = end - element;
    if (sinks.size() > 1) count = std::min(count, kBlock);
    for (const Runs& sink : sinks) count = std::min(count, sink.left(element));
    for (size_t i = 0; i < sources.size(); ++i) {
      count = std::min(count, sources[i].left(element));
      pointers[i] = sources[i].at(element);
    }
    if (sinks.size() == 1) {
      tree_sum(pointers, sinks[0].at(element), count);
      continue;
    }
    tree_sum(pointers, block.data(), count);
    for (const Runs& sink : sinks)
      std::memcpy(sink.at(element), block.data(), static_cast<size_t>(count) * sizeof(float));
  }
}

}  // namespace shoal
