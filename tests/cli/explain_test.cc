// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/cli/run_shoal.h"

namespace shoal::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json explain(const std::vector<std::string>& more, const std::string& model = kTiny) {
  std::vector<std::string> arguments = {"explain", model, "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Outcome outcome = run_shoal(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return json::parse(outcome.out);
}

TEST(Explain, JsonHasTheContractsKeys) {
  const json object = explain({"--tp", "4", "--pp", "2", "--adp", "--ep", "4", "--kv-cache-max-tokens", "100"});
  EXPECT_EQ(object.size(), 2u);
  EXPECT_EQ(object["world_size"], 8);
  ASSERT_EQ(object["ranks"].size(), 8u);
  const std::set<std::string> expected = {"rank",         "dp",
                                          "pp",           "cp",
                                          "tp",           "attn_dp",
                                          "moe_tp",       "moe_ep",
                                          "layers",       "heads",
                                          "kv_heads",     "experts",
                                          "weight_bytes", "kv_bytes_per_token",
                                          "kv_bytes",     "activation_bytes",
                                          "comm_bytes"};
  for (const json& rank : object["ranks"]) {
    std::set<std::string> keys;
    for (const auto& [key, value] : rank.items()) keys.insert(key);
    EXPECT_EQ(keys, expected);
    EXPECT_EQ(rank["kv_bytes"], rank["kv_bytes_per_token"].get<int64_t>() * 128);  // whole pages
    EXPECT_GT(rank["weight_bytes"], 0);
    EXPECT_GT(rank["activation_bytes"], 0);
    EXPECT_GT(rank["comm_bytes"], 0);
  }
  const json& last = object["ranks"][7];
  EXPECT_EQ(last["pp"], 1);
  EXPECT_EQ(last["tp"], 3);
  EXPECT_EQ(last["attn_dp"], 3);
  EXPECT_EQ(last["moe_ep"], 3);
  EXPECT_EQ(last["layers"], json::parse("[4, 7]"));
  EXPECT_EQ(last["heads"], 8);  // attention is whole on each rank
  EXPECT_EQ(last["experts"].size(), 4u);
  EXPECT_EQ(last["experts"]["7"], json::parse("[24, 25, 26, 27, 28, 29, 30, 31]"));
}

// Context-parallel ranks share the pages of a sequence; a window's layers keep fewer than the others.
TEST(Explain, BytesOfTheCacheAreThoseOfItsPages) {
  const json one = explain({"--kv-cache-max-tokens", "1024"}),
             four = explain({"--kv-cache-max-tokens", "1024", "--cp", "4"});
  ASSERT_EQ(four["ranks"].size(), 4u);
  for (const json& rank : four["ranks"])
    EXPECT_EQ(rank["kv_bytes"].get<int64_t>() * 4, one["ranks"][0]["kv_bytes"].get<int64_t>());
  const json windowed =
      explain({"--kv-cache-max-tokens", "2048", "--max-num-tokens", "64"}, "tests/golden/gpt_oss")["ranks"][0];
  EXPECT_LT(windowed["kv_bytes"].get<int64_t>(), windowed["kv_bytes_per_token"].get<int64_t>() * 2048);
}

// A rank that holds both ends of a model holds tied embeddings once.
TEST(Explain, TiedEmbeddingsAreHeldOnce) {
  const auto bytes = [](bool tied, const std::string& pp, size_t rank) {
    const Scratch scratch;
    const std::string config = scratch.file(
        "config.json",
        R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
        "hidden_act": "silu", "torch_dtype": "bfloat16", "tie_word_embeddings": )" +
            std::string(tied ? "true}" : "false}"));
    const std::string model = std::filesystem::path(config).parent_path().string();
    return explain({"--pp", pp, "--dtype", "bfloat16"}, model)["ranks"][rank]["weight_bytes"].get<int64_t>();
  };
  const int64_t table = 1000 * 64 * 2, panels = 1024 * 64 * 2;
  const int64_t saved = bytes(false, "1", 0) - bytes(true, "1", 0);
  EXPECT_GE(saved, table);
  EXPECT_LE(saved, panels);
  for (const size_t rank : {0, 1}) EXPECT_EQ(bytes(false, "2", rank), bytes(true, "2", rank));
}

TEST(Explain, EveryExpertHasAHomeWhenTheyDoNotDivide) {
  const json object = explain({"--tp", "3", "--adp", "--ep", "3"});
  std::set<int> seen;
  for (const json& rank : object["ranks"])
    for (const json& expert : rank["experts"]["3"])
      if (expert >= 0 && !seen.insert(expert.get<int>()).second) ADD_FAILURE() << expert << " has two homes";
  EXPECT_EQ(seen.size(), 32u);
}

TEST(Explain, TableNamesRanksAndCollectives) {
  const Outcome outcome = run_shoal({"explain", kTiny, "--tp", "2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, testing::AllOf(HasSubstr("2 ranks = "), HasSubstr("0-7"), HasSubstr("0-31"),
                                          HasSubstr("all_reduce"), HasSubstr("collectives of a step")));
}

// DeepSeek-V3's published sizes, with no weights at hand and on far more ranks than this machine has cores.
TEST(Explain, HugeModelFromItsConfigAlone) {
  const Scratch scratch;
  scratch.file(
      "config.json",
      R"({"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "vocab_size": 129280, "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
    "n_shared_experts": 1, "n_routed_experts": 256, "routed_scaling_factor": 2.5, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64,
    "v_head_dim": 128, "qk_nope_head_dim": 128, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "norm_topk_prob": true,
    "scoring_func": "sigmoid", "topk_method": "noaux_tc", "hidden_act": "silu", "max_position_embeddings": 163840, "rms_norm_eps": 1e-06,
    "rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096}, "attention_bias": false, "tie_word_embeddings": false, "num_nextn_predict_layers": 1,
    "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "moe_layer_freq": 1, "quantization_config": {"quant_method": "fp8", "fmt": "e4m3",
    "weight_block_size": [128, 128], "activation_scheme": "dynamic"}, "torch_dtype": "bfloat16"})");
  const json object = explain({"--tp", "32", "--adp", "--ep", "32", "--dtype", "bfloat16"},
                              std::filesystem::path(scratch.path("x")).parent_path().string());
  ASSERT_EQ(object["ranks"].size(), 32u);
  EXPECT_EQ(object["ranks"][31]["experts"]["60"], json::parse("[248, 249, 250, 251, 252, 253, 254, 255]"));
  // 8 of 256 experts of 58 layers, 3 matrices of 2048 x 7168 each in bf16: 41 GB; attention and the rest about 34 GB.
  EXPECT_GT(object["ranks"][0]["weight_bytes"].get<double>(), 41e9);
  EXPECT_LT(object["ranks"][0]["weight_bytes"].get<double>(), 90e9);
  // 61 layers of 512 + 64 latent values in bf16.
  EXPECT_EQ(object["ranks"][0]["kv_bytes_per_token"], 61 * 576 * 2);
}

}  // namespace
}  // namespace shoal::cli
