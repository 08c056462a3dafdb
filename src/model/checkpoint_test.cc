// SPDX-License-Identifier: Apache-2.0
// Reading matrices in every encoding and arrangement, against element-by-element arithmetic on what was written.
#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <thread>

#include "base/error.h"
#include "tests/support/make_checkpoint.h"

namespace shoal {
namespace {

using namespace testing_support;
using testing::ElementsAre;
using testing::HasSubstr;

struct Opened {
  TempDirectory directory;
  std::unique_ptr<Checkpoint> checkpoint;

  explicit Opened(const TensorList& tensors, int64_t block_rows = 128, int64_t block_columns = 128) {
    write_safetensors(directory.path() / "model.safetensors", tensors);
    checkpoint = Checkpoint::open(directory.path(), block_rows, block_columns);
  }
  std::string problem(const MatrixSource& source) const {
    const std::string text = checkpoint->problem(source);
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  }
};

using Oracle = std::function<double(int64_t row, int64_t column)>;  // logical [out, in]

// Whole, single rows, and slices that cut inside blocks.
void expect_reads(const Checkpoint& checkpoint, const MatrixSource& source, const Oracle& oracle) {
  ASSERT_EQ(checkpoint.problem(source), "");
  const auto check = [&](Range rows, Range columns) {
    std::vector<float> out(static_cast<size_t>(rows.size() * columns.size()), -12345.0f);
    checkpoint.read(source, rows.begin, rows.size(), columns, out);
    size_t i = 0;
    for (int64_t r = rows.begin; r < rows.end; ++r)
      for (int64_t c = columns.begin; c < columns.end; ++c, ++i)
        ASSERT_EQ(out[i], static_cast<float>(oracle(r, c))) << source.tensor << " row " << r << " column " << c;
  };
  const int64_t out = source.out, in = source.in;
  check({0, out}, {0, in});
  check({out / 3, out - out / 4}, {in / 3, in - in / 5});
  check({out - 1, out}, {in / 2, in});
  check({out / 2, out / 2 + 1}, {0, (in + 1) / 2});
  check({0, out}, {in - 1, in});
  check({0, 0}, {0, in});
  check({0, out}, {in, in});
}

// The value of element i as stored, judged without the engine's decoders.
double stored_value(const TensorToWrite& tensor, int64_t i) {
  const auto at = [&]<typename T>(T value) {
    std::memcpy(&value, tensor.bytes.data() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    return value;
  };
  if (tensor.type == "F32") return at(float{});
  if (tensor.type == "F16") return f16_value(at(uint16_t{}));
  if (tensor.type == "BF16") return std::bit_cast<float>(uint32_t{at(uint16_t{})} << 16);
  if (tensor.type == "F8_E4M3") return f8e4m3_value(at(uint8_t{}));
  return at(uint8_t{});
}

TensorToWrite make(const std::string& type, const std::string& name, std::vector<int64_t> shape, uint64_t seed) {
  int64_t count = 1;
  for (int64_t dimension : shape) count *= dimension;
  const auto values = random_values(count, seed, 3.0f);
  return (type == "F32" ? f32_tensor : type == "F16" ? f16_tensor : bf16_tensor)(name, std::move(shape), values);
}

class PlainTypes : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, PlainTypes, testing::Values("F32", "F16", "BF16"));

TEST_P(PlainTypes, MatrixAsStored) {
  const TensorToWrite w = make(GetParam(), "w", {37, 70}, 1);
  // One odd byte first, so that nothing behind it is aligned.
  const Opened opened({u8_tensor("odd", {1}, std::vector<uint8_t>{7}), w});
  expect_reads(*opened.checkpoint, {.tensor = "w", .out = 37, .in = 70},
               [&](int64_t r, int64_t c) { return stored_value(w, r * 70 + c); });
}

TEST_P(PlainTypes, Transposed) {
  const TensorToWrite w = make(GetParam(), "w", {70, 301}, 2);
  const Opened opened({w});
  expect_reads(*opened.checkpoint, {.tensor = "w", .out = 301, .in = 70, .transposed = true},
               [&](int64_t r, int64_t c) { return stored_value(w, c * 301 + r); });
}

TEST_P(PlainTypes, ExpertsAndAlternatingColumns) {
  const int64_t experts = 3, in = 45, stored = 2 * 150;
  const TensorToWrite w = make(GetParam(), "w", {experts, in, stored}, 3);
  const Opened opened({w});
  for (int64_t expert = 0; expert < experts; ++expert) {
    for (int64_t begin : {0, 1}) {
      const MatrixSource source{.tensor = "w",
                                .out = 150,
                                .in = in,
                                .expert = expert,
                                .experts = experts,
                                .transposed = true,
                                .stored_out = stored,
                                .out_begin = begin,
                                .out_step = 2};
      expect_reads(*opened.checkpoint, source,
                   [&](int64_t r, int64_t c) { return stored_value(w, (expert * in + c) * stored + begin + 2 * r); });
    }
    const MatrixSource half{.tensor = "w",
                            .out = 150,
                            .in = in,
                            .expert = expert,
                            .experts = experts,
                            .transposed = true,
                            .stored_out = stored,
                            .out_begin = 150};
    expect_reads(*opened.checkpoint, half,
                 [&](int64_t r, int64_t c) { return stored_value(w, (expert * in + c) * stored + 150 + r); });
  }
}

TEST_P(PlainTypes, EveryStepOfRows) {
  const TensorToWrite rows = make(GetParam(), "rows", {500, 6}, 4), columns = make(GetParam(), "columns", {6, 500}, 5);
  const Opened opened({rows, columns});
  for (int64_t step : {1, 3, 5, 64, 100, 130, 300}) {
    MatrixSource source{.tensor = "rows",
                        .out = (500 - 7 + step - 1) / step,
                        .in = 6,
                        .stored_out = 500,
                        .out_begin = 7,
                        .out_step = step};
    expect_reads(*opened.checkpoint, source,
                 [&](int64_t r, int64_t c) { return stored_value(rows, (7 + r * step) * 6 + c); });
    source.tensor = "columns";
    source.transposed = true;
    expect_reads(*opened.checkpoint, source,
                 [&](int64_t r, int64_t c) { return stored_value(columns, c * 500 + 7 + r * step); });
  }
}

TEST_P(PlainTypes, Vectors) {
  const TensorToWrite v = make(GetParam(), "v", {300}, 6), stacked = make(GetParam(), "stacked", {4, 300}, 7);
  const Opened opened({v, stacked});
  expect_reads(*opened.checkpoint, {.tensor = "v", .out = 300, .vector = true},
               [&](int64_t r, int64_t) { return stored_value(v, r); });
  const MatrixSource up{.tensor = "stacked",
                        .out = 150,
                        .expert = 2,
                        .experts = 4,
                        .stored_out = 300,
                        .out_begin = 1,
                        .out_step = 2,
                        .vector = true};
  expect_reads(*opened.checkpoint, up, [&](int64_t r, int64_t) { return stored_value(stacked, 2 * 300 + 1 + 2 * r); });
}

struct Fp8Case {
  int64_t rows, columns, block_rows, block_columns;
  bool bf16_scales;
};
class Fp8 : public testing::TestWithParam<Fp8Case> {};
// Partial edge blocks, blocks larger than the matrix, blocks that are not square.
INSTANTIATE_TEST_SUITE_P(All, Fp8,
                         testing::Values(Fp8Case{256, 256, 128, 128, false}, Fp8Case{300, 200, 128, 128, false},
                                         Fp8Case{7, 5, 128, 128, true}, Fp8Case{65, 130, 16, 64, true},
                                         Fp8Case{33, 40, 1, 7, false}));

TEST_P(Fp8, BlockScalesByGlobalIndex) {
  const Fp8Case p = GetParam();
  const auto values = random_values(p.rows * p.columns, 8, 5.0f);
  const TensorList w =
      fp8_tensors("w.weight", p.rows, p.columns, values, {p.block_rows, p.block_columns, p.bf16_scales});
  const Opened opened(w, p.block_rows, p.block_columns);
  const int64_t scale_columns = w[1].shape[1];
  const MatrixSource source{.tensor = "w.weight", .out = p.rows, .in = p.columns};
  const Oracle oracle = [&](int64_t r, int64_t c) {
    const double scale = stored_value(w[1], r / p.block_rows * scale_columns + c / p.block_columns);
    return static_cast<float>(stored_value(w[0], r * p.columns + c)) * static_cast<float>(scale);
  };
  expect_reads(*opened.checkpoint, source, oracle);
  EXPECT_THAT(opened.checkpoint->names(source), ElementsAre("w.weight", "w.weight_scale_inv"));
  // Rounding to three bits of mantissa: within 1/16 of the value, or half the smallest step of the block.
  for (int64_t i = 0; i < p.rows * p.columns; ++i) {
    const double value = values[static_cast<size_t>(i)];
    ASSERT_NEAR(oracle(i / p.columns, i % p.columns), value, std::max(std::fabs(value) / 15, 5.0 / 448 / 1024));
  }
  const MatrixSource middle{
      .tensor = "w.weight", .out = p.rows / 2, .in = p.columns, .stored_out = p.rows, .out_begin = 1, .out_step = 2};
  expect_reads(*opened.checkpoint, middle, [&](int64_t r, int64_t c) { return oracle(1 + 2 * r, c); });
}

TEST(Checkpoint, StackedFp8Experts) {
  TensorList w = fp8_tensors("w", 2 * 12, 20, random_values(2 * 12 * 20, 9), {4, 8});
  w[0].shape = {2, 12, 20};
  w[1].shape = {2, 3, 3};
  const Opened opened(w, 4, 8);
  const auto value = [&](int64_t r, int64_t c) {
    return static_cast<float>(stored_value(w[0], r * 20 + c)) *
           static_cast<float>(stored_value(w[1], r / 4 * 3 + c / 8));
  };
  expect_reads(*opened.checkpoint, {.tensor = "w", .out = 12, .in = 20, .expert = 1, .experts = 2},
               [&](int64_t r, int64_t c) { return value(12 + r, c); });
  expect_reads(*opened.checkpoint, {.tensor = "w", .out = 20, .in = 12, .expert = 1, .experts = 2, .transposed = true},
               [&](int64_t r, int64_t c) { return value(12 + c, r); });
}

TEST(Checkpoint, Mxfp4BlocksAreNeverTransposed) {
  const int64_t experts = 3, out = 10, in = 96;
  const TensorList w = mxfp4_tensors("w", {experts, out, in}, random_values(experts * out * in, 10, 9.0f));
  const Opened opened(w);
  const auto value = [&](int64_t e, int64_t r, int64_t c) {
    const int64_t row = e * out + r;
    const auto pair = static_cast<int>(stored_value(w[0], (row * in + c) / 2));
    return e2m1_value(static_cast<uint8_t>(c % 2 == 0 ? pair & 15 : pair >> 4)) *
           std::ldexp(1.0, static_cast<int>(stored_value(w[1], (row * in + c) / 32)) - 127);
  };
  for (bool transposed : {false, true}) {
    MatrixSource source{.tensor = "w", .out = out, .in = in, .expert = 1, .experts = experts, .transposed = transposed};
    expect_reads(*opened.checkpoint, source, [&](int64_t r, int64_t c) { return value(1, r, c); });
    EXPECT_THAT(opened.checkpoint->names(source), ElementsAre("w_blocks", "w_scales"));
    source = {.tensor = "w",
              .out = out / 2,
              .in = in,
              .expert = 2,
              .experts = experts,
              .transposed = transposed,
              .stored_out = out,
              .out_begin = 1,
              .out_step = 2};
    expect_reads(*opened.checkpoint, source, [&](int64_t r, int64_t c) { return value(2, 1 + 2 * r, c); });
  }
}

TEST(Checkpoint, ZeroSizedAndScalarTensorsAreFine) {
  const Opened opened({f32_tensor("empty", {0, 5}, {}), f32_tensor("scalar", {}, std::vector<float>{2.5f}),
                       f32_tensor("none", {3, 0}, {})});
  EXPECT_EQ(opened.problem({.tensor = "empty", .out = 0, .in = 5}), "");
  EXPECT_EQ(opened.problem({.tensor = "none", .out = 3, .in = 0}), "");
  EXPECT_EQ(opened.problem({.tensor = "none", .out = 0, .in = 3, .transposed = true}), "");
  opened.checkpoint->read({.tensor = "none", .out = 3, .in = 0}, 0, 3, {0, 0}, {});
  EXPECT_THAT(opened.checkpoint->tensors().at("scalar").shape, testing::IsEmpty());
}

TEST(Checkpoint, ProblemsNameFileTensorAndExpectation) {
  TensorList tensors = fp8_tensors("f8", 130, 10, random_values(1300, 11));
  tensors.push_back(fp8_tensors("bare", 4, 4, random_values(16, 12))[0]);
  tensors.push_back(bf16_tensor("w", {3, 4}, random_values(12, 13)));
  tensors.push_back(u8_tensor("bytes", {3, 4}, std::vector<uint8_t>(12)));
  tensors.push_back({"f64", "F64", {1, 1}, std::vector<std::byte>(8)});
  tensors.push_back(u8_tensor("m_blocks", {2, 3, 1, 16}, std::vector<uint8_t>(96)));
  tensors.push_back(u8_tensor("n_blocks", {2, 3, 1, 16}, std::vector<uint8_t>(96)));
  tensors.push_back(u8_tensor("n_scales", {2, 3, 2}, std::vector<uint8_t>(12)));
  const Opened opened(tensors);
  const std::string file = (opened.directory.path() / "model.safetensors").string();
  EXPECT_EQ(opened.problem({.tensor = "w", .out = 4, .in = 3}),
            file + ": tensor 'w' is BF16 [3, 4], expected F32, F16, BF16 or F8_E4M3 [4, 3]");
  EXPECT_EQ(opened.problem({.tensor = "w", .out = 4, .in = 3, .transposed = true}), "");
  EXPECT_EQ(opened.problem({.tensor = "w", .out = 3, .in = 4, .expert = 0, .experts = 8}),
            file + ": tensor 'w' is BF16 [3, 4], expected F32, F16, BF16 or F8_E4M3 [8, 3, 4]");
  EXPECT_EQ(opened.problem({.tensor = "bytes", .out = 3, .in = 4}),
            file + ": tensor 'bytes' is U8 [3, 4], expected F32, F16, BF16 or F8_E4M3 [3, 4]");
  EXPECT_THAT(opened.problem({.tensor = "f64", .out = 1, .in = 1}), HasSubstr("is F64 [1, 1], expected"));
  EXPECT_EQ(opened.problem({.tensor = "gone", .out = 5, .vector = true}),
            opened.directory.path().string() + ": tensor 'gone' is missing, expected F32, F16 or BF16 [5]");
  EXPECT_THAT(opened.problem({.tensor = "bare", .out = 4, .in = 4}),
              HasSubstr("tensor 'bare_scale_inv' is missing, expected F32 or BF16 [1, 1] (scales of F8_E4M3 weights in "
                        "blocks of 128 x 128)"));
  EXPECT_EQ(opened.problem({.tensor = "f8", .out = 130, .in = 10}), "");
  EXPECT_THAT(opened.problem({.tensor = "m", .out = 3, .in = 32, .expert = 0, .experts = 2}),
              HasSubstr("tensor 'm_scales' is missing, expected U8 [2, 3, 1]"));
  EXPECT_THAT(opened.problem({.tensor = "n", .out = 3, .in = 32, .expert = 0, .experts = 2}),
              HasSubstr("tensor 'n_scales' is U8 [2, 3, 2], expected U8 [2, 3, 1]"));
  EXPECT_THAT(opened.problem({.tensor = "n", .out = 3, .in = 40, .expert = 0, .experts = 2}),
              HasSubstr("tensor 'n_blocks' cannot hold rows of 40 values, expected a multiple of 32"));
  EXPECT_THAT(opened.checkpoint->names({.tensor = "gone", .out = 1}), ElementsAre("gone"));
  float value = 0;
  EXPECT_THROW(opened.checkpoint->read({.tensor = "gone", .out = 1}, 0, 1, {0, 1}, {&value, 1}), Error);
}

TEST(Checkpoint, WrongFp8BlockSizes) {
  EXPECT_THROW(Opened({}, 0, 128), Error);
  EXPECT_THROW(Opened({}, 128, -1), Error);
  EXPECT_THROW(Opened({}, INT64_MAX, 128), Error);
}

TEST(Checkpoint, ReadsFromManyThreads) {
  const TensorToWrite w = make("BF16", "w", {64, 256}, 14);
  TensorList tensors = fp8_tensors("f8", 64, 256, random_values(64 * 256, 15));
  tensors.push_back(w);
  const Opened opened(tensors);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<float> out(64 * 256), other(64 * 256);
      for (int64_t round = 0; round < 20; ++round) {
        opened.checkpoint->read({.tensor = "w", .out = 64, .in = 256}, 0, 64, {0, 256}, out);
        opened.checkpoint->read({.tensor = "f8", .out = 64, .in = 256}, 0, 64, {0, 256}, other);
        for (int64_t i = 0; i < 64 * 256; i += 97)
          wrong[t] += out[static_cast<size_t>(i)] != static_cast<float>(stored_value(w, i));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace shoal
