// SPDX-License-Identifier: Apache-2.0
#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>
#include <thread>

#include "parallel/cuts.h"

namespace shoal {

namespace {

// YaRN's "NTK-by-parts": pair index at which a frequency turns `rotations` times over the original context.
double correction_index(const RopeSpec& spec, double rotations) {
  const double length = static_cast<double>(spec.original_max_positions);
  return static_cast<double>(spec.rotary_dim) * std::log(length / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(spec.theta));
}

void scale_yarn(const RopeSpec& spec, std::vector<double>& frequencies) {
  double low = correction_index(spec, spec.beta_fast), high = correction_index(spec, spec.beta_slow);
  if (spec.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(spec.rotary_dim - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double interpolated = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] *= interpolated / spec.factor + (1.0 - interpolated);
  }
}

void scale_llama3(const RopeSpec& spec, std::vector<double>& frequencies) {
  const double length = static_cast<double>(spec.original_max_positions);
  for (double& frequency : frequencies) {
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    if (wavelength < length / spec.high_freq_factor) continue;
    if (wavelength > length / spec.low_freq_factor) {
      frequency /= spec.factor;
      continue;
    }
    const double smooth = (length / wavelength - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor);
    frequency = (1.0 - smooth) * frequency / spec.factor + smooth * frequency;
  }
}

double dynamic_theta(const RopeSpec& spec, int64_t length) {
  if (length <= spec.original_max_positions) return spec.theta;
  const double stretch = spec.factor * static_cast<double>(length) / static_cast<double>(spec.original_max_positions) -
                         (spec.factor - 1.0);
  const double dim = static_cast<double>(spec.rotary_dim);
  return spec.theta * std::pow(stretch, dim / (dim - 2.0));
}

constexpr int64_t kRopeBlock = 128;  // positions computed between two writes: small enough for the cache

struct Turn {
  double cos = 0, sin = 0;
};

template <size_t N>
double polynomial(double z, const double (&coefficients)[N]) {
  double sum = 0;
  for (size_t i = N; i-- > 0;) sum = sum * z + coefficients[i];
  return sum;
}

// cos and sin of an angle of up to 2^24 to about 2^-45, in code without branches that compilers turn into vectors: the library's took a
// tenth of the time to load a small model. The angle less its nearest multiple of pi/2, in three parts so that each product is exact
// (Cody and Waite 1980), then Taylor's series on [-pi/4, pi/4].
inline Turn turn(double angle) {
  constexpr double kRound = 0x1.8p52;  // adding and taking it away rounds to a whole number
  constexpr double kHalfPi[] = {0x1.921fb54p+0, 0x1.10b461p-30, 0x1.a62633145c06ep-58};
  constexpr double kSin[] = {1, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0};
  constexpr double kCos[] = {1,           -1.0 / 2,       1.0 / 24,          -1.0 / 720,
                             1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600.0, -1.0 / 87178291200.0};
  const double quarters = (angle * (2 / std::numbers::pi) + kRound) - kRound;
  const double x = ((angle - quarters * kHalfPi[0]) - quarters * kHalfPi[1]) - quarters * kHalfPi[2];
  const double sin = x * polynomial(x * x, kSin), cos = polynomial(x * x, kCos);
  // Quarters modulo 4, from -2 to 2: odd ones swap the two, and the signs follow. By factors of 0, 1 and -1, which choices would not become.
  const double quarter = quarters - 4 * ((quarters * 0.25 + kRound) - kRound);
  const double square = quarter * quarter;
  const double odd = square * (4 - square) / 3, even = (1 - odd) * (1 - square / 2);
  return {even * cos - odd * quarter * sin, even * sin + odd * quarter * cos};
}

// The angle is rounded to float32 first, as the models' own code does: at long positions that is part of what they learned.
void fill_row(std::span<const float> frequencies, int64_t position, double factor, float* cosines, float* sines) {
  const auto at = static_cast<float>(position);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const Turn t = turn(at * frequencies[i]);
    cosines[i] = static_cast<float>(t.cos * factor);
    sines[i] = static_cast<float>(t.sin * factor);
  }
}

}  // namespace

std::vector<float> rope_frequencies(const RopeSpec& spec, int64_t length) {
  const double theta = spec.type == RopeType::kDynamic ? dynamic_theta(spec, length) : spec.theta;
  std::vector<double> frequencies(spec.rotary_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(spec.rotary_dim));
  switch (spec.type) {
    case RopeType::kLinear:
      for (double& frequency : frequencies) frequency /= spec.factor;
      break;
    case RopeType::kYarn:
      scale_yarn(spec, frequencies);
      break;
    case RopeType::kLlama3:
      scale_llama3(spec, frequencies);
      break;
    case RopeType::kDefault:
    case RopeType::kDynamic:
      break;
  }
  return {frequencies.begin(), frequencies.end()};
}

RopeTable make_rope_table(const RopeSpec& spec, int64_t positions, Backend& backend, int threads) {
  const int64_t pairs = spec.rotary_dim / 2;
  RopeTable table = reserve_rope_table(spec, positions, backend);
  const auto fill = [&](Range range) {
    std::vector<float> frequencies = rope_frequencies(spec, 0);
    std::vector<float> cosines(kRopeBlock * pairs), sines(kRopeBlock * pairs);
    for (int64_t first = range.begin; first < range.end; first += kRopeBlock) {
      const int64_t count = std::min(kRopeBlock, range.end - first);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t position = first + i;
        if (spec.type == RopeType::kDynamic && position >= spec.original_max_positions)
          frequencies = rope_frequencies(spec, position + 1);
        fill_row(frequencies, position, spec.attention_factor, &cosines[i * pairs], &sines[i * pairs]);
      }
      backend.write_rows(table.cos, first, count, std::span(cosines).first(count * pairs));
      backend.write_rows(table.sin, first, count, std::span(sines).first(count * pairs));
    }
  };
  std::vector<std::jthread> helpers;
  for (int i = 1; i < threads; ++i) helpers.emplace_back(fill, even_part(positions, i, threads));
  fill(even_part(positions, 0, threads));
  helpers.clear();
  return table;
}

RopeTable reserve_rope_table(const RopeSpec& spec, int64_t positions, Backend& backend) {
  const Shape shape{positions, spec.rotary_dim / 2};
  return {backend.empty(DType::kF32, shape), backend.empty(DType::kF32, shape), spec.interleaved};
}

}  // namespace shoal
