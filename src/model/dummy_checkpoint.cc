// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "model/weights.h"

namespace shoal {

namespace {

// SplitMix64's finaliser (Steele et al. 2014): every bit of the result depends on every bit of x.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t hash_name(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.ends_with(end);
}

class DummyCheckpoint : public Checkpoint {
 public:
  explicit DummyCheckpoint(uint64_t seed) : seed_(seed) {}
  const std::map<std::string, StoredTensor>& tensors() const override { return none_; }
  std::vector<std::string> names(const MatrixSource& source) const override { return {source.tensor}; }
  std::string problem(const MatrixSource&) const override { return {}; }

  // Norms are 1; everything else is uniform with variance 1 / (stored columns), so that activations keep their size
  // through the layers. Value and spread come from the stored place, so that a transposed reading sees the same tensor.
  void read(const MatrixSource& source, int64_t row, int64_t count, Range columns,
            std::span<float> out) const override {
    const bool is_norm = ends_with(source.tensor, "norm.weight");
    const uint64_t key = mix(seed_ ^ hash_name(source.tensor) ^ mix(static_cast<uint64_t>(source.expert + 1)));
    const int64_t stored_columns = source.vector       ? 4096
                                   : source.transposed ? std::max(source.stored_out, source.out)
                                                       : source.in;
    const float span = static_cast<float>(std::sqrt(12.0 / static_cast<double>(stored_columns)));
    float* value = out.data();
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t stored_row = static_cast<uint64_t>(source.out_begin + (row + i) * source.out_step);
      for (int64_t column = columns.begin; column < columns.end; ++column) {
        const uint64_t place = source.transposed ? (static_cast<uint64_t>(column) << 32 | stored_row)
                                                 : (stored_row << 32 | static_cast<uint64_t>(column));
        const float unit = static_cast<float>(mix(key + place * 0x9e3779b97f4a7c15u) >> 40) * 0x1p-24f - 0.5f;
        *value++ = is_norm ? 1.0f : unit * span;
      }
    }
  }

 private:
  uint64_t seed_;
  std::map<std::string, StoredTensor> none_;
};

}  // namespace

std::unique_ptr<Checkpoint> make_dummy_checkpoint(uint64_t seed) { return std::make_unique<DummyCheckpoint>(seed); }

}  // namespace shoal
