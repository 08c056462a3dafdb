// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "model/checkpoint.h"
#include "model/model.h"

namespace shoal {
namespace {

TEST(LayoutProblems, AllAtOnceWithNearestValues) {
  const ModelSpec spec = load_model_spec("tests/golden/qwen3_moe");  // 8 heads, 2 KV heads, 16 experts, 4 layers
  GridSizes sizes;
  sizes.tensor = sizes.moe_expert = 24;
  sizes.pipeline = 5;
  const std::vector<std::string> problems = layout_problems(spec, sizes, {1, 1, 0, 1, 2});
  ASSERT_EQ(problems.size(), 5u) << ::testing::PrintToString(problems);
  EXPECT_EQ(problems[0],
            "attention tensor parallel size 24 must divide the model's 8 query heads; nearest that works: 8");
  EXPECT_EQ(problems[1], "moe_expert_parallel_size 24 is more than the model's 16 experts; use at most 16");
  EXPECT_EQ(problems[2], "pipeline_parallel_size 5 is more than the model's 4 layers; use at most 4");
  EXPECT_EQ(problems[3], "pp_partition sums to 5; it must sum to the model's 4 layers");
  EXPECT_EQ(problems[4], "pp_partition holds a stage without layers; each needs at least 1");
}

TEST(LayoutProblems, KvHeadsDivideOneWay) {
  ModelSpec spec = load_model_spec("tests/golden/qwen3_moe");
  for (DecoderLayer& layer : spec.layers) {
    layer.attention.heads = 24;
    layer.attention.kv_heads = 6;
  }
  GridSizes sizes;
  sizes.tensor = sizes.moe_tensor = 4;
  const std::vector<std::string> problems = layout_problems(spec, sizes, {});
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0],
            "attention tensor parallel size 4 must divide the model's 6 KV heads or be a multiple of them; nearest "
            "that works: 3 or 6");
}

TEST(LayoutProblems, NoneWhereTheLayoutWorks) {
  GridSizes sizes;
  sizes.tensor = sizes.moe_expert = 8;
  EXPECT_TRUE(layout_problems(load_model_spec("tests/golden/deepseek_v3"), sizes, {}).empty());
}

// A checkpoint with tensors renamed: what a missing and a surplus tensor look like.
class Renamed : public Checkpoint {
 public:
  Renamed(const std::string& dir, const std::string& from, const std::string& to)
      : inner_(Checkpoint::open(dir)), tensors_(inner_->tensors()) {
    tensors_[to] = tensors_.at(from);
    tensors_.erase(from);
  }
  const std::map<std::string, StoredTensor>& tensors() const override { return tensors_; }
  std::vector<std::string> names(const MatrixSource& source) const override { return inner_->names(source); }
  std::string problem(const MatrixSource& source) const override {
    return tensors_.contains(source.tensor) ? inner_->problem(source) : "'" + source.tensor + "' is missing";
  }
  void read(const MatrixSource& source, int64_t row, int64_t count, Range columns,
            std::span<float> out) const override {
    inner_->read(source, row, count, columns, out);
  }

 private:
  std::unique_ptr<Checkpoint> inner_;
  std::map<std::string, StoredTensor> tensors_;
};

std::vector<std::string> problems_after(const std::string& from, const std::string& to,
                                        std::vector<std::string>& notices) {
  const std::string dir = "tests/golden/llama";
  return checkpoint_problems(load_model_spec(dir), Renamed(dir, from, to), notices);
}

TEST(CheckpointProblems, MissingAndSurplusTensors) {
  std::vector<std::string> notices;
  const std::vector<std::string> problems =
      problems_after("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.extra.weight", notices);
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_EQ(problems[0], "'model.layers.1.mlp.up_proj.weight' is missing");
  EXPECT_NE(problems[1].find("'model.layers.1.mlp.extra.weight' is not part of a llama model"), std::string::npos)
      << problems[1];
}

TEST(CheckpointProblems, TensorsOutsideTheTextModelAreSkippedWithOneNotice) {
  std::vector<std::string> notices;
  // Layers past num_hidden_layers are for multi-token prediction.
  const std::vector<std::string> problems =
      problems_after("model.layers.0.mlp.up_proj.weight", "model.layers.61.mlp.up_proj.weight", notices);
  EXPECT_EQ(problems.size(), 1u);
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_NE(notices[0].find("1 tensors outside the text model are skipped"), std::string::npos) << notices[0];
}

TEST(CheckpointProblems, GoldenCheckpointsAreComplete) {
  for (const char* model :
       {"llama", "deepseek_v3_fp8", "gpt_oss", "llama4_multimodal", "qwen3_moe_oldstyle", "mixtral"}) {
    const std::string dir = std::string("tests/golden/") + model;
    std::vector<std::string> notices;
    EXPECT_TRUE(checkpoint_problems(load_model_spec(dir), *Checkpoint::open(dir), notices).empty()) << model;
  }
}

}  // namespace
}  // namespace shoal
