// SPDX-License-Identifier: Apache-2.0
#include "engine/logit_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "engine/logit_kernels.h"

namespace shoal {
namespace {

constexpr auto kBlock = static_cast<size_t>(LogitKernels::kBlock);

const LogitKernels& kernels_of(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512") return kLogitKernelsAvx512;
  if (isa == "avx2") return kLogitKernelsAvx2;
#endif
  CHECK(isa == "plain");
  return kLogitKernelsPlain;
}

}  // namespace

std::vector<std::string> LogitBlocks::available_isas() {
  std::vector<std::string> names;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    names.emplace_back("avx512");
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.emplace_back("avx2");
#endif
  names.emplace_back("plain");
  return names;
}

LogitBlocks::LogitBlocks(const std::string& isa)
    : kernels_(&kernels_of(isa.empty() ? available_isas().front() : isa)) {}

std::span<const float> LogitBlocks::block(size_t index) const {
  return logits_.subspan(index * kBlock, std::min(kBlock, logits_.size() - index * kBlock));
}

void LogitBlocks::scan(std::span<const float> logits, float inverse_temperature) {
  logits_ = logits;
  scale_ = inverse_temperature;
  const size_t blocks = (logits.size() + kBlock - 1) / kBlock;
  maxima_.resize(blocks);
  sums_.resize(blocks);
  scaled_sums_.resize(blocks);
  const bool own_sums = scale_ > 0.0f && scale_ != 1.0f;
  kernels_->scan(logits.data(), static_cast<int64_t>(logits.size()), own_sums ? scale_ : 0.0f, maxima_.data(),
                 sums_.data(), scaled_sums_.data());
  if (scale_ == 1.0f) scaled_sums_ = sums_;
  largest_ = *std::max_element(maxima_.begin(), maxima_.end());
  scaled_mass_ = 0.0;
  if (scale_ == 0.0f || largest_ == kMinusInfinity) return;
  // From sums relative to each block's largest to sums relative to the row's.
  scratch_.resize(blocks + 16);
  kernels_->weigh(maxima_.data(), static_cast<int64_t>(blocks), largest_, scale_, scratch_.data());
  for (size_t i = 0; i < blocks; ++i)
    scaled_mass_ += static_cast<double>(scaled_sums_[i]) * static_cast<double>(scratch_[i]);
}

double LogitBlocks::log_sum_exp() const {
  scratch_.resize(maxima_.size() + 16);
  kernels_->weigh(maxima_.data(), std::ssize(maxima_), largest_, 1.0f, scratch_.data());
  double sum = 0.0;
  for (size_t i = 0; i < sums_.size(); ++i) sum += static_cast<double>(sums_[i]) * static_cast<double>(scratch_[i]);
  return static_cast<double>(largest_) + std::log(sum);
}

int32_t LogitBlocks::argmax() const {
  if (largest_ == kMinusInfinity) return -1;
  const auto at = static_cast<size_t>(std::find(maxima_.begin(), maxima_.end(), largest_) - maxima_.begin());
  const std::span<const float> values = block(at);
  return static_cast<int32_t>(at * kBlock) +
         static_cast<int32_t>(std::find(values.begin(), values.end(), largest_) - values.begin());
}

void LogitBlocks::at_least(float logit, std::vector<int32_t>& ids) const {
  ids.clear();
  for (size_t b = 0; b < maxima_.size(); ++b) {
    if (maxima_[b] < logit) continue;
    const std::span<const float> values = block(b);
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] >= logit) ids.push_back(static_cast<int32_t>(b * kBlock + i));
  }
}

// The count-th largest of the blocks' maxima is a bound: so many tokens are at least as likely.
void LogitBlocks::likeliest(int64_t count, std::vector<int32_t>& ids) const {
  float bound = kMinusInfinity;
  if (count < std::ssize(maxima_)) {
    std::vector<float> sorted = maxima_;
    std::nth_element(sorted.begin(), sorted.begin() + (count - 1), sorted.end(), std::greater<>());
    bound = sorted[static_cast<size_t>(count - 1)];
  }
  at_least(bound, ids);
  const auto kept = ids.begin() + std::min<int64_t>(count, std::ssize(ids));
  if (kept != ids.end()) std::nth_element(ids.begin(), kept, ids.end(), Likelier{logits_});
  ids.erase(kept, ids.end());
  std::sort(ids.begin(), ids.end(), Likelier{logits_});
}

int32_t LogitBlocks::draw(double uniform) const {
  if (largest_ == kMinusInfinity) return -1;
  scratch_.resize(maxima_.size() + kBlock + 16);
  kernels_->weigh(maxima_.data(), std::ssize(maxima_), largest_, scale_, scratch_.data());
  double rest = uniform * scaled_mass_;
  size_t at = maxima_.size();  // block
  double scale_of_block = 0.0;
  for (size_t b = 0; b < maxima_.size(); ++b) {
    const double mass = static_cast<double>(scaled_sums_[b]) * static_cast<double>(scratch_[b]);
    if (mass == 0.0) continue;
    at = b;
    scale_of_block = static_cast<double>(scratch_[b]);
    if (rest < mass) break;
    rest -= mass;
  }
  if (at == maxima_.size()) return -1;
  const std::span<const float> values = block(at);
  kernels_->weigh(values.data(), std::ssize(values), maxima_[at], scale_, scratch_.data());
  rest /= scale_of_block;
  size_t last = 0;  // with a weight, for when rounding uses the last of it up
  for (size_t i = 0; i < values.size(); ++i) {
    if (scratch_[i] == 0.0f) continue;
    last = i;
    if ((rest -= static_cast<double>(scratch_[i])) < 0.0) break;
  }
  return static_cast<int32_t>(at * kBlock + last);
}

}  // namespace shoal
