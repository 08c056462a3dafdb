// SPDX-License-Identifier: Apache-2.0
// The reference checkpoints in tests/golden: all open, shards join, and the quantised ones hold what their definition
// says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "model/checkpoint.h"
#include "tests/support/make_checkpoint.h"

namespace shoal {
namespace {

using namespace testing_support;
namespace fs = std::filesystem;

std::vector<float> whole(const Checkpoint& checkpoint, const MatrixSource& source) {
  std::vector<float> out(static_cast<size_t>(source.out * source.in));
  checkpoint.read(source, 0, source.out, {0, source.in}, out);
  return out;
}

MatrixSource as_stored(const std::string& name, const StoredTensor& tensor) {
  if (tensor.shape.size() == 1) return {.tensor = name, .out = tensor.shape[0], .vector = true};
  return {.tensor = name, .out = tensor.shape[0], .in = tensor.shape[1]};
}

TEST(GoldenCheckpoints, AllOpenAndReadFinite) {
  int seen = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator("tests/golden")) {
    if (!fs::exists(entry.path() / "config.json")) continue;
    ++seen;
    const auto checkpoint = Checkpoint::open(entry.path());
    EXPECT_GT(checkpoint->tensors().size(), 10u) << entry.path();
    for (const auto& [name, tensor] : checkpoint->tensors()) {
      if (tensor.shape.size() > 2) continue;
      const MatrixSource source = as_stored(name, tensor);
      ASSERT_EQ(checkpoint->problem(source), "");
      for (float value : whole(*checkpoint, source)) ASSERT_TRUE(std::isfinite(value)) << entry.path() << " " << name;
    }
  }
  EXPECT_GE(seen, 12);
}

// Old-style checkpoints are the same model in shards: same names, same values.
TEST(GoldenCheckpoints, ShardsHoldTheSameModel) {
  const auto one = Checkpoint::open("tests/golden/deepseek_v3");
  const auto shards = Checkpoint::open("tests/golden/deepseek_v3_oldstyle");
  ASSERT_EQ(one->tensors().size(), shards->tensors().size());
  std::map<fs::path, int> files;
  for (const auto& [name, tensor] : shards->tensors()) {
    ++files[tensor.file];
    ASSERT_TRUE(one->tensors().contains(name)) << name;
    const auto& other = one->tensors().at(name);
    EXPECT_EQ(tensor.shape, other.shape) << name;
    EXPECT_TRUE(std::equal(tensor.data.begin(), tensor.data.end(), other.data.begin(), other.data.end())) << name;
  }
  EXPECT_EQ(files.size(), 3u);
}

// By definition: value times the scale of its 128 x 128 block; and close to the model it was made from.
TEST(GoldenCheckpoints, Fp8EqualsItsDefinitionAndIsNearItsOrigin) {
  const auto fp8 = Checkpoint::open("tests/golden/deepseek_v3_fp8");
  const auto origin = Checkpoint::open("tests/golden/deepseek_v3");
  int quantised = 0, partial = 0;
  for (const auto& [name, tensor] : fp8->tensors()) {
    if (tensor.type != StoredType::kF8E4M3) continue;
    ++quantised;
    const int64_t rows = tensor.shape[0], columns = tensor.shape[1], scale_columns = (columns + 127) / 128;
    partial += rows > 128 && rows % 128 != 0;
    const StoredTensor& scales = fp8->tensors().at(name + "_scale_inv");
    const std::vector<float> values = whole(*fp8, {.tensor = name, .out = rows, .in = columns});
    const std::vector<float> exact = whole(*origin, {.tensor = name, .out = rows, .in = columns});
    for (int64_t i = 0; i < rows * columns; ++i) {
      const int64_t r = i / columns, c = i % columns;
      float scale;
      std::memcpy(&scale, scales.data.data() + 4 * (r / 128 * scale_columns + c / 128), 4);
      const auto at = static_cast<size_t>(i);
      const auto stored = static_cast<float>(f8e4m3_value(std::to_integer<uint8_t>(tensor.data[at])));
      ASSERT_EQ(values[at], stored * scale) << name << " " << r << " " << c;
      ASSERT_NEAR(values[at], exact[at], std::fabs(exact[at]) / 15 + scale / 512) << name << " " << r << " " << c;
    }
  }
  EXPECT_GT(quantised, 100);
  EXPECT_GT(partial, 0);
}

// gpt-oss's own form, packed from the BF16 case: blocks are [experts, out, in / 32, 16] where the BF16 tensor is
// [experts, in, out].
class PackedGptOss : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string name = std::string("model.layers.0.mlp.experts.") + GetParam();
    const auto& shape = golden_->tensors().at(name).shape;
    source_ = {.tensor = name, .out = shape[2], .in = shape[1], .expert = 0, .experts = shape[0], .transposed = true};
  }
  std::vector<float> golden(int64_t expert) {
    source_.expert = expert;
    return whole(*golden_, source_);
  }

  std::unique_ptr<Checkpoint> golden_ = Checkpoint::open("tests/golden/gpt_oss");
  MatrixSource source_;
};
INSTANTIATE_TEST_SUITE_P(Tensors, PackedGptOss, testing::Values("gate_up_proj", "down_proj"));

TEST_P(PackedGptOss, ReadsBackWithinARoundingStep) {
  std::vector<float> stacked;
  for (int64_t expert = 0; expert < source_.experts; ++expert) {
    const std::vector<float> values = golden(expert);
    stacked.insert(stacked.end(), values.begin(), values.end());
  }
  TempDirectory directory;
  write_safetensors(directory.path() / "model.safetensors",
                    mxfp4_tensors(source_.tensor, {source_.experts, source_.out, source_.in}, stacked));
  const auto packed = Checkpoint::open(directory.path());
  size_t at = 0;
  for (int64_t expert = 0; expert < source_.experts; ++expert) {
    source_.expert = expert;
    ASSERT_EQ(packed->problem(source_), "");
    const std::vector<float> values = whole(*packed, source_);
    for (size_t block = 0; block < values.size(); block += 32, at += 32) {
      float largest = 0;
      for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(stacked[at + i]));
      // Steps double from 0.5 below 2 to 2 at 6, and 6 to 8 is cut to 6: at most a quarter of the largest value.
      for (size_t i = 0; i < 32; ++i)
        ASSERT_NEAR(values[block + i], stacked[at + i], largest / 4 + 1e-12f) << expert << " " << block + i;
    }
  }
}

// The transposed read of the BF16 tensor itself, against its bytes.
TEST_P(PackedGptOss, TransposedReadMatchesTheBytes) {
  const StoredTensor& tensor = golden_->tensors().at(source_.tensor);
  for (int64_t expert : {int64_t{0}, source_.experts - 1}) {
    const std::vector<float> values = golden(expert);
    for (int64_t r = 0; r < source_.out; ++r) {
      for (int64_t c = 0; c < source_.in; ++c) {
        uint16_t bits;
        std::memcpy(&bits, tensor.data.data() + 2 * ((expert * source_.in + c) * source_.out + r), 2);
        ASSERT_EQ(values[static_cast<size_t>(r * source_.in + c)], std::bit_cast<float>(uint32_t{bits} << 16));
      }
    }
  }
}

}  // namespace
}  // namespace shoal
