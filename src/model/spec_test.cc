// SPDX-License-Identifier: Apache-2.0
#include "model/spec.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "base/error.h"
#include "base/json_file.h"

namespace shoal {
namespace {

using nlohmann::json;

class SpecTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::path(::testing::TempDir()) /
           (std::string("spec_") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(dir_);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  // The config of a reference checkpoint, changed.
  ModelSpec changed(const std::string& model, const std::function<void(json&)>& change) {
    json config = read_json_file("tests/golden/" + model + "/config.json");
    change(config);
    std::ofstream(dir_ / "config.json") << config.dump();
    return load_model_spec(dir_);
  }
  std::string error(const std::string& model, const std::function<void(json&)>& change) {
    try {
      changed(model, change);
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << "more than one line";
      return e.what();
    }
    return "no error";
  }
  std::filesystem::path dir_;
};

using ::testing::Test;

#define EXPECT_ERROR(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(SpecTest, OldAndNewSpellingAgree) {
  const ModelSpec old_spelling = load_model_spec("tests/golden/deepseek_v3_oldstyle"),
                  spec = load_model_spec("tests/golden/deepseek_v3");
  EXPECT_EQ(old_spelling.rope.type, spec.rope.type);
  EXPECT_EQ(old_spelling.rope.factor, spec.rope.factor);
  EXPECT_EQ(old_spelling.rope.theta, spec.rope.theta);
  EXPECT_EQ(old_spelling.layers[1].attention.scale, spec.layers[1].attention.scale);
}

TEST_F(SpecTest, OldRopeSpellingInsideATextConfig) {
  const ModelSpec spec = changed("llama4_multimodal", [](json& config) {
    json& text = config["text_config"];
    text.erase("rope_parameters");
    text["rope_theta"] = 123456.0;
    text["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 8.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 64}};
  });
  EXPECT_EQ(spec.rope.theta, 123456.0);
  EXPECT_EQ(spec.rope.type, RopeType::kLlama3);
  EXPECT_EQ(spec.rope.original_max_positions, 64);
  EXPECT_EQ(spec.prefix, "language_model.");
}

TEST_F(SpecTest, Llama4DerivesItsLists) {
  const ModelSpec given = load_model_spec("tests/golden/llama4");
  const ModelSpec derived = changed("llama4", [](json& config) {
    for (const char* key : {"moe_layers", "layer_types", "no_rope_layers"}) config.erase(key);
  });
  for (size_t i = 0; i < given.layers.size(); ++i) {
    EXPECT_EQ(derived.layers[i].attention.rope, given.layers[i].attention.rope) << i;
    EXPECT_EQ(derived.layers[i].attention.chunk, given.layers[i].attention.chunk) << i;
    EXPECT_EQ(derived.layers[i].moe.has_value(), given.layers[i].moe.has_value()) << i;
  }
}

TEST_F(SpecTest, HeadDimMayBeNullOrMeanTheRopePart) {
  EXPECT_EQ(load_model_spec("tests/golden/mixtral").layers[0].attention.head_dim, 8);  // null: 64 / 8
  EXPECT_EQ(load_model_spec("tests/golden/deepseek_v3").layers[0].attention.head_dim,
            24);  // says 8, the rope part of 16 + 8
}

TEST_F(SpecTest, MissingRouterKeysMeanSigmoidAndNoauxTc) {
  const ModelSpec spec = changed("deepseek_v3", [](json& config) {
    config.erase("scoring_func");
    config.erase("topk_method");
  });
  EXPECT_EQ(spec.layers[1].moe->router.scoring, Scoring::kSigmoid);
  EXPECT_TRUE(spec.layers[1].moe->correction_bias);
}

TEST_F(SpecTest, EndTokensComeFromBothFiles) {
  const ModelSpec spec = load_model_spec("models/shoal-tiny");
  EXPECT_EQ(spec.stop_ids, (std::vector<int32_t>{0, 5}));
  EXPECT_EQ(spec.bos_id, 1);
}

TEST_F(SpecTest, BadValuesAreOneLineWithValueAndRule) {
  EXPECT_ERROR(error("llama", [](json& c) { c["hidden_size"] = "64"; }),
               "'hidden_size' is \"64\"; it must be a whole number");
  EXPECT_ERROR(error("llama", [](json& c) { c["hidden_size"] = 0; }), "'hidden_size' is 0");
  EXPECT_ERROR(error("llama", [](json& c) { c["hidden_size"] = 1e300; }), "'hidden_size'");
  EXPECT_ERROR(error("llama", [](json& c) { c["num_hidden_layers"] = 18446744073709551615u; }), "'num_hidden_layers'");
  EXPECT_ERROR(error("llama", [](json& c) { c.erase("vocab_size"); }), "'vocab_size' is missing");
  EXPECT_ERROR(error("llama", [](json& c) { c["model_type"] = "gpt2"; }), "one of llama, qwen2");
  EXPECT_ERROR(error("llama", [](json& c) { c["hidden_act"] = "gelu"; }), "'hidden_act' is \"gelu\"");
  EXPECT_ERROR(error("llama", [](json& c) { c["num_key_value_heads"] = 3; }), "a divisor of num_attention_heads, 8");
  EXPECT_ERROR(error("llama", [](json& c) { c["rope_parameters"]["rope_type"] = "longrope"; }),
               "default, linear, dynamic, yarn or llama3");
  EXPECT_ERROR(error("llama", [](json& c) { c["rope_parameters"] = 5; }),
               "'rope_parameters' is 5; it must be an object");
  EXPECT_ERROR(error("qwen3_moe", [](json& c) { c["num_experts_per_tok"] = 17; }), "at most the number of experts, 16");
  EXPECT_ERROR(error("deepseek_v3", [](json& c) { c["n_group"] = 3; }), "a divisor of n_routed_experts, 16");
  EXPECT_ERROR(error("deepseek_v3", [](json& c) { c["topk_group"] = 9; }), "at most n_group, 4");
  EXPECT_ERROR(error("gpt_oss", [](json& c) { c["layer_types"] = {"full_attention"}; }),
               "as long as num_hidden_layers");
  EXPECT_ERROR(error("llama", [](json& c) { c["quantization_config"] = {{"quant_method", "gptq"}}; }), "fp8 or mxfp4");
  EXPECT_ERROR(error("llama", [](json& c) { c["eos_token_id"] = {"</s>"}; }), "a token id or a list");
}

TEST_F(SpecTest, MissingDirectoryAndFile) {
  EXPECT_THROW(load_model_spec("no/such/dir"), Error);
  EXPECT_THROW(load_model_spec(dir_), Error);
  std::ofstream(dir_ / "config.json") << "{\"model_type\": ";
  EXPECT_THROW(load_model_spec(dir_), Error);
  std::ofstream(dir_ / "config.json") << "[]";
  EXPECT_THROW(load_model_spec(dir_), Error);
}

}  // namespace
}  // namespace shoal
