// SPDX-License-Identifier: Apache-2.0
#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include <numbers>
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
  std::vector<float> cosines(positions * pairs), sines(positions * pairs);
  const auto fill = [&](Range range) {
    std::vector<float> frequencies = rope_frequencies(spec, 0);
    for (int64_t position = range.begin; position < range.end; ++position) {
      if (spec.type == RopeType::kDynamic && position >= spec.original_max_positions)
        frequencies = rope_frequencies(spec, position + 1);
      for (int64_t i = 0; i < pairs; ++i) {
        // The angle is rounded to float32 first, as the models' own code does: at long positions that is part of what
        // they learned.
        const double angle = static_cast<float>(position) * frequencies[i];
        cosines[position * pairs + i] = static_cast<float>(std::cos(angle) * spec.attention_factor);
        sines[position * pairs + i] = static_cast<float>(std::sin(angle) * spec.attention_factor);
      }
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back(fill, even_part(positions, i, threads));
    fill(even_part(positions, 0, threads));
  }
  const Shape shape{positions, pairs};
  return {backend.from_host(cosines, shape), backend.from_host(sines, shape), spec.interleaved};
}

RopeTable reserve_rope_table(const RopeSpec& spec, int64_t positions, Backend& backend) {
  const Shape shape{positions, spec.rotary_dim / 2};
  return {backend.empty(DType::kF32, shape), backend.empty(DType::kF32, shape), spec.interleaved};
}

}  // namespace shoal
