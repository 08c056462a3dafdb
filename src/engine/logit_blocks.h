// SPDX-License-Identifier: Apache-2.0
// LogitBlocks: a row of logits seen once, in blocks whose maxima and sums of exponentials are kept; what a sampler asks of the row afterwards
// (its log-sum-exp, the likeliest tokens, a draw) touches only the blocks that matter.
// Invariants: the same bits on every instruction-set path; ties go to the lowest id; a row that holds a NaN or +infinity has no finite log_sum_exp.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace shoal {

struct LogitKernels;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Larger logits first, lower ids first among equals. Not for NaNs.
struct Likelier {
  std::span<const float> logits;
  bool operator()(int32_t a, int32_t b) const { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; }
};

class LogitBlocks {
 public:
  // `isa`: plain, avx2 or avx512; empty: the best this machine has.
  explicit LogitBlocks(const std::string& isa = {});
  static std::vector<std::string> available_isas();

  // Reads the row, which must stay as it is while this is asked. `inverse_temperature` 0: no draw will be asked for.
  void scan(std::span<const float> logits, float inverse_temperature);

  double log_sum_exp() const;  // relative error 1e-6
  float largest() const { return largest_; }
  int32_t argmax() const;  // lowest id among the largest; -1 if all are minus infinity
  void likeliest(int64_t count, std::vector<int32_t>& ids) const;  // likeliest first
  void at_least(float logit, std::vector<int32_t>& ids) const;     // ascending ids
  double scaled_mass() const { return scaled_mass_; }  // sum of exp((logit - largest) * inverse_temperature)
  // The token at `uniform` in [0, 1) of the mass, over ascending ids.
  int32_t draw(double uniform) const;

 private:
  std::span<const float> block(size_t index) const;

  const LogitKernels* kernels_;
  std::span<const float> logits_;
  float scale_ = 0.0f;
  float largest_ = 0.0f;
  double scaled_mass_ = 0.0;
  std::vector<float> maxima_, sums_, scaled_sums_;
  mutable std::vector<float> scratch_;
};

}  // namespace shoal
