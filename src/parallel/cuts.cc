// SPDX-License-Identifier: Apache-2.0
#include "parallel/cuts.h"

#include <algorithm>

#include "base/error.h"

namespace shoal {
namespace {

// Units of heads: as many for each rank, or one head for `parts / heads` consecutive ranks.
Range head_part(const Dim& dim, int64_t heads, GroupPlace place) {
  if (heads >= place.size) {
    if (heads % place.size != 0) check_failed(__FILE__, __LINE__, dim.name + ": heads not divisible by ranks");
    return even_part(heads, place.index, place.size);
  }
  CHECK(dim.cut == Cut::kKvHeads);
  CHECK_EQ(place.size % heads, 0);
  const int64_t head = place.index / (place.size / heads);
  return {head, head + 1};
}

}  // namespace

Range even_part(int64_t n, int64_t index, int64_t parts) {
  CHECK(0 <= index && index < parts && n >= 0);
  return {index * n / parts, (index + 1) * n / parts};
}

Range front_loaded_part(int64_t n, int64_t index, int64_t parts) {
  CHECK(0 <= index && index < parts && n >= 0);
  const int64_t size = n / parts;
  const int64_t longer = n % parts;
  const int64_t begin = index * size + std::min(index, longer);
  return {begin, begin + size + (index < longer ? 1 : 0)};
}

Axis axis_of(Cut cut) {
  switch (cut) {
    case Cut::kAttnTp:
    case Cut::kKvHeads:
      return Axis::kAttnTp;
    case Cut::kVocab:
      return Axis::kAttn;
    case Cut::kFfnTp:
      return Axis::kFfnTp;
    case Cut::kMoeTp:
      return Axis::kMoeTp;
    case Cut::kNone:
    case Cut::kExperts:
      break;
  }
  check_failed(__FILE__, __LINE__, "a dimension that is whole, or placed by expert, has no axis");
}

Range slice(const Dim& dim, const Mesh& mesh, int rank) {
  CHECK(dim.unit >= 1);
  CHECK_EQ(dim.size % dim.unit, 0);
  if (dim.cut == Cut::kNone) return {0, dim.size};
  const GroupPlace place = mesh.place(axis_of(dim.cut), rank);
  const int64_t units = dim.size / dim.unit;
  const bool heads = dim.cut == Cut::kAttnTp || dim.cut == Cut::kKvHeads;
  const Range part = heads ? head_part(dim, units, place) : even_part(units, place.index, place.size);
  return {part.begin * dim.unit, part.end * dim.unit};
}

std::vector<Range> stage_layers(int64_t layers, int stages, const std::vector<int64_t>& partition) {
  std::vector<Range> ranges;
  if (partition.empty()) {
    for (int stage = 0; stage < stages; ++stage) ranges.push_back(front_loaded_part(layers, stage, stages));
    return ranges;
  }
  CHECK_EQ(static_cast<int64_t>(partition.size()), stages);
  int64_t begin = 0;
  for (const int64_t size : partition) {
    CHECK_GE(size, 0);
    ranges.push_back({begin, begin + size});
    begin += size;
  }
  CHECK_EQ(begin, layers);
  return ranges;
}

}  // namespace shoal
