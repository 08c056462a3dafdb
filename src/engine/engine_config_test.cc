// SPDX-License-Identifier: Apache-2.0
// parallel_config.yaml, SHOAL_* and flags: values, precedence, and what is said about what cannot be used.
#include "engine/engine_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "base/error.h"

namespace shoal {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Environment = std::vector<std::pair<std::string, std::string>>;

// A file of the test's own, removed with it.
class TemporaryYaml {
 public:
  explicit TemporaryYaml(const std::string& text)
      : path_(std::filesystem::temp_directory_path() / ("engine_config_" + std::to_string(::getpid()) + ".yaml")) {
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~TemporaryYaml() { std::filesystem::remove(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

EngineConfig load(const std::string& yaml, const Environment& environment = {},
                  const std::vector<FlagValue>& flags = {}) {
  const TemporaryYaml file(yaml);
  return load_engine_config(file.path(), environment, flags);
}

// Text of the error with the file's name shortened to "F"; "accepted" if there is none.
std::string error_of(const std::string& yaml, const Environment& environment = {},
                     const std::vector<FlagValue>& flags = {}) {
  const TemporaryYaml file(yaml);
  try {
    load_engine_config(file.path(), environment, flags);
  } catch (const Error& error) {
    std::string text = error.what();
    const std::string name = file.path().string();
    for (size_t at; (at = text.find(name)) != std::string::npos;) text.replace(at, name.size(), "F");
    return text;
  }
  return "accepted";
}

size_t problem_count(const std::string& text) {
  size_t count = 0;
  for (size_t at = text.find("\n  - "); at != std::string::npos; at = text.find("\n  - ", at + 1)) ++count;
  return count;
}

constexpr const char* kEveryKey = R"(
tensor_parallel_size: 4
pipeline_parallel_size: 2
data_parallel_size: 3
context_parallel_size: 1
pp_partition: [5, 3]
cp_config: null
attention_dp_size: 2
attention_dp_config: {enable_balance: true, timeout_iters: 60, batching_wait_iters: 11}
moe_tensor_parallel_size: -1
moe_expert_parallel_size: 2
moe_config:
  max_num_tokens: 9216
  load_balancer: null
kv_cache_config:
  max_tokens: 1000
  free_gpu_memory_fraction: 0.75
  tokens_per_block: 64
  enable_block_reuse: false
  dtype: auto
max_batch_size: 16
max_num_tokens: 512
max_seq_len: 4096
enable_chunked_prefill: true
disable_overlap_scheduler: true
scheduler_config:
  capacity_scheduler_policy: MAX_UTILIZATION
  context_chunking_policy: EQUAL_PROGRESS
  waiting_queue_policy: priority
load_format: dummy
gpus_per_node: 8
dtype: float32
device: cpu
threads_per_rank: 2
deterministic: true
)";

TEST(EngineConfig, EveryKeyOfTheContract) {
  const EngineConfig c = load(kEveryKey);
  EXPECT_EQ(c.grid(),
            (GridSizes{.data = 3, .pipeline = 2, .tensor = 4, .attention_data = 2, .moe_tensor = 2, .moe_expert = 2}));
  EXPECT_THAT(c.pp_partition, ElementsAre(5, 3));
  EXPECT_EQ(c.moe.max_num_tokens, 9216);
  EXPECT_EQ(c.kv_cache.max_tokens, 1000);
  EXPECT_EQ(c.kv_cache.free_memory_fraction, 0.75);
  EXPECT_EQ(c.kv_cache.tokens_per_block, 64);
  EXPECT_FALSE(c.kv_cache.enable_block_reuse);
  EXPECT_EQ(c.max_batch_size, 16);
  EXPECT_EQ(c.max_num_tokens, 512);
  EXPECT_EQ(c.max_seq_len, 4096);
  EXPECT_TRUE(c.enable_chunked_prefill);
  EXPECT_TRUE(c.disable_overlap_scheduler);
  EXPECT_EQ(c.scheduler.capacity_scheduler_policy, "MAX_UTILIZATION");
  EXPECT_EQ(c.scheduler.context_chunking_policy, "EQUAL_PROGRESS");
  EXPECT_EQ(c.scheduler.waiting_queue_policy, "priority");
  EXPECT_TRUE(c.attention_dp.enable_balance);
  EXPECT_EQ(c.attention_dp.timeout_iters, 60);
  EXPECT_EQ(c.attention_dp.batching_wait_iters, 11);
  EXPECT_EQ(c.load_format, "dummy");
  EXPECT_EQ(c.gpus_per_node, 8);
  EXPECT_EQ(c.dtype, "float32");
  EXPECT_EQ(c.threads_per_rank, 2);
  EXPECT_TRUE(c.deterministic);
}

TEST(EngineConfig, NothingGivenIsOneRank) {
  const EngineConfig c = load_engine_config(std::nullopt, {}, {});
  EXPECT_EQ(c.grid(), GridSizes{});
  EXPECT_THAT(c.notices, IsEmpty());
  EXPECT_THAT(c.origins, IsEmpty());
  EXPECT_EQ(load("# empty\n").grid(), GridSizes{});
}

TEST(EngineConfig, MoeSizesFollow) {
  EXPECT_EQ(load("tensor_parallel_size: 8").grid().moe_tensor, 8);
  EXPECT_EQ(load("tensor_parallel_size: 8").grid().moe_expert, 1);
  EXPECT_EQ(load("{tensor_parallel_size: 8, moe_tensor_parallel_size: 2}").grid().moe_expert, 4);
  EXPECT_EQ(
      load("{tensor_parallel_size: 8, moe_expert_parallel_size: 8, moe_tensor_parallel_size: -1}").grid().moe_tensor,
      1);
  EXPECT_EQ(load("{tensor_parallel_size: 8, enable_attention_dp: true}").grid().attention_data, 8);
}

TEST(EngineConfig, ContextRanksCountAmongTheMoeRanks) {
  EngineConfig c;
  c.tensor_parallel_size = 4;
  c.context_parallel_size = 2;
  EXPECT_EQ(c.grid().moe_tensor, 8);
  c.moe_expert_parallel_size = 4;
  EXPECT_EQ(c.grid().moe_tensor, 2);
}

TEST(EngineConfig, ContextSchemesByEitherKey) {
  const auto schemes = [](const std::string& cp) { return load("context_parallel_size: 2\n" + cp).cp.schemes(); };
  using enum ContextScheme;
  EXPECT_EQ(schemes(""), (ContextSchemes{kRing, kHelix}));
  EXPECT_EQ(schemes("cp_config: {cp_type: helix, tokens_per_block: 32}"), (ContextSchemes{kRing, kHelix}));
  EXPECT_EQ(schemes("cp_config: {cp_type: Helix, prefill_type: ulysses}"), (ContextSchemes{kUlysses, kHelix}));
  EXPECT_EQ(schemes("cp_config: {cp_type: RING}"), (ContextSchemes{kRing, kRing}));
  EXPECT_EQ(schemes("cp_config: {cp_type: ulysses}"), (ContextSchemes{kUlysses, kUlysses}));
  EXPECT_EQ(schemes("cp_config: {cp_type: ring, prefill_type: ULYSSES}"), (ContextSchemes{kUlysses, kRing}));
}

TEST(EngineConfig, ContextProblemsAllAtOnce) {
  const std::string text = error_of(
      "context_parallel_size: 2\ncp_config: {cp_type: helixx, prefill_type: helix, tokens_per_block: 64, block_sice: "
      "1}\n");
  EXPECT_EQ(problem_count(text), 4u) << text;
  for (const char* part : {"cp_config.cp_type is 'helixx' (F:2), must be one of HELIX, RING, ULYSSES",
                           "cp_config.prefill_type is 'helix' (F:2), must be one of RING, ULYSSES",
                           "unknown key cp_config.block_sice (F:2)",
                           "cp_config.tokens_per_block is 64, must equal kv_cache_config.tokens_per_block 32; nearest: "
                           "32, or leave it out"})
    EXPECT_THAT(text, HasSubstr(part));
}

RC_GTEST_PROP(EngineConfig, DerivedSizesAlwaysSatisfyTheGrid, ()) {
  const int64_t tp = *rc::gen::inRange(1, 65);
  const int64_t size = *rc::gen::inRange(1, 65);
  const bool as_ep = *rc::gen::arbitrary<bool>();
  EngineConfig c;
  c.tensor_parallel_size = tp;
  (as_ep ? c.moe_expert_parallel_size : c.moe_tensor_parallel_size) = size;
  RC_ASSERT(grid_problems(c.grid()).empty() == (tp % size == 0));
}

TEST(EngineConfig, FlagsBeforeVariablesBeforeFile) {
  const EngineConfig c =
      load("{tensor_parallel_size: 2, pipeline_parallel_size: 2, data_parallel_size: 2}",
           {{"SHOAL_TP", "4"}, {"SHOAL_PIPELINE_PARALLEL_SIZE", "3"}, {"SHOAL_DP", ""}, {"PATH", "x"}},
           {{"tensor_parallel_size", "8", "-tp"}});
  EXPECT_EQ(c.tensor_parallel_size, 8);
  EXPECT_EQ(c.pipeline_parallel_size, 3);
  EXPECT_EQ(c.data_parallel_size, 2) << "an empty variable is not set";
  EXPECT_EQ(c.origins.at("tensor_parallel_size"), "-tp");
  EXPECT_EQ(c.origins.at("pipeline_parallel_size"), "SHOAL_PIPELINE_PARALLEL_SIZE");
  EXPECT_THAT(c.origins.at("data_parallel_size"), HasSubstr(".yaml:1"));
}

TEST(EngineConfig, KeysGivenTwiceWarnAndTheLastWins) {
  // The reference's documentation shows alternatives in one file.
  const EngineConfig c = load(
      "# TP only\ntensor_parallel_size: 8\nmoe_tensor_parallel_size: 8\n\n# EP only\ntensor_parallel_size: 8\n"
      "moe_expert_parallel_size: 8\n\n# Hybrid\ntensor_parallel_size: 8\nmoe_tensor_parallel_size: "
      "4\nmoe_expert_parallel_size: 2\n");
  EXPECT_EQ(c.grid(), (GridSizes{.tensor = 8, .moe_tensor = 4, .moe_expert = 2}));
  EXPECT_THAT(c.notices,
              ElementsAre(HasSubstr("tensor_parallel_size is given on lines 2, 6 and 10; the last one counts"),
                          HasSubstr("moe_tensor_parallel_size is given on lines 3 and 11"),
                          HasSubstr("moe_expert_parallel_size is given on lines 7 and 12")));
  const EngineConfig adp = load(
      "tensor_parallel_size: 8\nenable_attention_dp: false    # default\ntensor_parallel_size: 8\nenable_attention_dp: "
      "true\n");
  EXPECT_EQ(adp.grid().attention_data, 8);
  const EngineConfig alias = load("kv_cache_config:\n  free_memory_fraction: 0.5\n  free_gpu_memory_fraction: 0.25\n");
  EXPECT_EQ(alias.kv_cache.free_memory_fraction, 0.25);
  EXPECT_THAT(alias.notices, ElementsAre(HasSubstr("lines 2 and 3")));
}

TEST(EngineConfig, ReferenceKeysWithoutMeaningGetOneNotice) {
  const EngineConfig c = load(
      "tensor_parallel_size: 2\ncuda_graph_config: {enable_padding: true, batch_sizes: [1, 2]}\nstream_interval: 20\n"
      "moe_config: {backend: WIDEEP, use_low_precision_moe_combine: true}\nnum_postprocess_workers: 4\nbackend: "
      "pytorch\n"
      "print_iter_log: true\ntrust_remote_code: true\ncache_transceiver_config: "
      "{backend: UCX}\n"
      "allreduce_strategy: MNNVL\nenable_lm_head_tp_in_adp: true\nspeculative_config: null\n"
      "max_beam_width: 1\n");
  ASSERT_EQ(c.notices.size(), 1u);
  for (const char* key : {"allreduce_strategy", "cuda_graph_config", "moe_config.backend", "trust_remote_code"}) {
    EXPECT_THAT(c.notices[0], HasSubstr(key));
  }
  EXPECT_THAT(c.notices[0], AllOf(Not(HasSubstr("speculative")), Not(HasSubstr("max_beam_width"))));
}

TEST(EngineConfig, FeaturesToComeAreRefusedAsSuch) {
  const std::string text = error_of(
      "context_parallel_size: 2\ncp_config: {cp_type: star}\nmoe_config:\n  max_num_tokens: "
      "5\nspeculative_config:\n"
      "  decoding_type: MTP\nattention_dp_config:\n  kv_cache_routing_cold_start_warmup: true\nkv_cache_config:\n  "
      "dtype: nvfp4\n  "
      "host_cache_size: 5\n"
      "batch_wait_timeout_ms: 5\ndevice: cuda\n");
  EXPECT_EQ(problem_count(text), 7u) << text;
  for (const char* part :
       {"cp_config.cp_type is 'star' (F:2): not built yet, must be one of HELIX, RING, ULYSSES",
        "speculative_config is a map (F:5)",
        "attention_dp_config.kv_cache_routing_cold_start_warmup is 'true' (F:8): warming caches up evenly: not built "
        "yet; nearest: false",
        "kv_cache_config.dtype is 'nvfp4' (F:10): not built yet, must be one of auto, fp8",
        "kv_cache_config.host_cache_size is '5' (F:11)", "batch_wait_timeout_ms is '5' (F:12)",
        "device is 'cuda' (F:13): not built yet"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(EngineConfig, LoadBalancerInlineOrAsAFile) {
  const EngineConfig inlined = load(
      "moe_config:\n  load_balancer:\n    num_slots: 6\n    initial_global_assignments: {3: [0, 1, 2, 3, 0, -1]}\n"
      "    layer_updates_per_iter: 2\n    max_stall_ms: 0.5\n");
  ASSERT_TRUE(inlined.moe.load_balancer.has_value());
  EXPECT_EQ(inlined.moe.load_balancer->num_slots, 6);
  EXPECT_EQ(inlined.moe.load_balancer->layer_updates_per_iter, 2);
  EXPECT_EQ(inlined.moe.load_balancer->max_stall_ms, 0.5);
  EXPECT_THAT(inlined.moe.load_balancer->initial_global_assignments.at(3), ElementsAre(0, 1, 2, 3, 0, -1));
  const std::filesystem::path path = std::filesystem::temp_directory_path() / ("slots_" + std::to_string(::getpid()));
  std::ofstream(path) << "num_slots: 8\nnum_slots: 9\n";
  // The flag's file goes before the keys given inline.
  const EngineConfig from_file = load("moe_config: {load_balancer: {num_slots: 6}}\n", {},
                                      {{"moe_config.load_balancer", path.string(), "--moe-load-balancer"}});
  EXPECT_EQ(from_file.moe.load_balancer->num_slots, 9);
  EXPECT_THAT(from_file.notices, ElementsAre(HasSubstr("num_slots is given on lines 1 and 2")));
  std::filesystem::remove(path);
  EXPECT_FALSE(load("moe_config: {load_balancer: null}\n").moe.load_balancer.has_value());
}

TEST(EngineConfig, WrongLoadBalancersAreRefusedWithEverythingElse) {
  const std::string text = error_of(
      "max_batch_size: 0\nmoe_config:\n  load_balancer:\n    num_slot: 6\n    layer_updates_per_iter: -1\n"
      "expert_statistic: {iter_range: 7}\n");
  EXPECT_EQ(problem_count(text), 4u) << text;
  for (const char* part : {"max_batch_size is '0'", "unknown key num_slot (F:4); the nearest known is num_slots",
                           "layer_updates_per_iter is '-1' (F:5)", "'7' is no range of steps"})
    EXPECT_THAT(text, HasSubstr(part));
  EXPECT_THAT(error_of("", {{"SHOAL_MOE_LOAD_BALANCER", "/nowhere.yaml"}}),
              AllOf(HasSubstr("/nowhere.yaml"), HasSubstr("SHOAL_MOE_LOAD_BALANCER")));
}

TEST(EngineConfig, UnknownKeysNameTheNearest) {
  const std::string text = error_of(
      "tensor_paralel_size: 4\ntp_size: 4\nmax_tokens: 5\nkv_cache_config:\n  tokens_per_blok: 32\ncuda_graph_conf: "
      "{}\n",
      {{"SHOAL_TENSOR_SIZE", "3"}});
  EXPECT_EQ(problem_count(text), 6u) << text;
  EXPECT_THAT(text, HasSubstr("unknown key cuda_graph_conf (F:6); the nearest known is cuda_graph_config"));
  EXPECT_THAT(text, HasSubstr("unknown key tensor_paralel_size (F:1); the nearest known is tensor_parallel_size"));
  EXPECT_THAT(text, HasSubstr("unknown key tp_size (F:2); the nearest known is tensor_parallel_size"));
  EXPECT_THAT(text, HasSubstr("unknown key max_tokens (F:3); the nearest known is kv_cache_config.max_tokens"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "unknown key kv_cache_config.tokens_per_blok (F:5); the nearest known is kv_cache_config.tokens_per_block"));
  EXPECT_THAT(text, HasSubstr("unknown variable SHOAL_TENSOR_SIZE; the nearest known is SHOAL_"));
}

TEST(EngineConfig, EveryProblemOfEverySourceAtOnce) {
  const std::string text = error_of(
      "tensor_parallel_size: 8\nmoe_expert_parallel_size: 3\nmax_batch_size: 0\npp_partition: [4, 4]\n"
      "kv_cache_config: 7\nmax_seq_len: {a: 1}\ndtype: [x]\n",
      {{"SHOAL_THREADS", "many"}}, {{"attention_dp_size", "3", "--adp-size"}});
  EXPECT_THAT(text, StartsWith("the configuration cannot be used\n  - "));
  EXPECT_EQ(problem_count(text), 8u) << text;
  for (const char* part :
       {"moe_expert_parallel_size is 3, must divide tensor_parallel_size = 8; nearest: 2 or 4 "
        "(moe_expert_parallel_size: F:2, "
        "tensor_parallel_size: F:1)",
        "max_batch_size is '0' (F:3), must be a whole number from 1",
        "pp_partition has 2 entries, must have one for each stage",
        "kv_cache_config (F:5) is '7', must be a map of keys", "max_seq_len (F:6) is a map, must be a whole number",
        "dtype is [x] (F:7), must be one of auto, float32, bfloat16", "threads_per_rank is 'many' (SHOAL_THREADS)",
        "attention_dp_size is 3, must divide tensor_parallel_size 8; nearest: 2 or 4 (attention_dp_size: --adp-size"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(EngineConfig, GridEquationsThatDoNotHold) {
  EXPECT_THAT(error_of("tensor_parallel_size: 8\nmoe_tensor_parallel_size: 4\nmoe_expert_parallel_size: 4\n"),
              HasSubstr("moe_tensor_parallel_size 4 * moe_expert_parallel_size 4 = 16, must equal tensor_parallel_size "
                        "8; nearest: "));
  EXPECT_THAT(
      error_of("tensor_parallel_size: 4\nattention_dp_size: 2\nenable_attention_dp: true\n"),
      HasSubstr(
          "attention_dp_size is 2, but enable_attention_dp: true means tensor_parallel_size 4; give one of the two"));
  EXPECT_EQ(error_of("tensor_parallel_size: 4\nattention_dp_size: 4\nenable_attention_dp: true\n"), "accepted");
  EXPECT_THAT(error_of("data_parallel_size: 60000\npipeline_parallel_size: 60000\n"), HasSubstr("at most 65536 ranks"));
}

TEST(EngineConfig, WhatFollowsFromARefusedValueIsNotReported) {
  const std::string text = error_of("tensor_parallel_size: eight\nmoe_expert_parallel_size: 8\n");
  EXPECT_EQ(problem_count(text), 1u) << text;
}

TEST(EngineConfig, VariablesThatContradictEachOther) {
  EXPECT_THAT(error_of("", {{"SHOAL_TENSOR_PARALLEL_SIZE", "2"}, {"SHOAL_TP", "4"}}),
              HasSubstr("tensor_parallel_size is set differently by SHOAL_TENSOR_PARALLEL_SIZE and SHOAL_TP"));
  EXPECT_EQ(error_of("", {{"SHOAL_TENSOR_PARALLEL_SIZE", "2"}, {"SHOAL_TP", "2"}}), "accepted");
}

TEST(EngineConfig, HostileFilesGiveOneClearError) {
  EXPECT_THAT(error_of("- a\n- b\n"), HasSubstr("F is a list, must be a map of keys"));
  EXPECT_THAT(error_of("tensor_parallel_size: [1\n"), StartsWith("F:"));
  EXPECT_THAT(error_of("a: &x [1]\nb: *x\n"), HasSubstr("F:2: aliases"));
  EXPECT_THAT(error_of(std::string(2 << 20, 'x')), HasSubstr("larger than"));
  EXPECT_THROW(load_engine_config("no/such.yaml", {}, {}), Error);
  std::string many;
  for (int i = 0; i < 20000; ++i) many += "k" + std::to_string(i) + ": 1\n";
  const std::string text = error_of(many);
  EXPECT_EQ(problem_count(text), 41u);
  EXPECT_THAT(text, HasSubstr("and 19960 more"));
}

TEST(EngineConfig, TheDocsListEveryOption) {
  std::ifstream file("docs/parallel.md");
  std::stringstream text;
  text << file.rdbuf();
  EngineConfig defaults;
  const std::string table = options_markdown(engine_options(defaults));
  EXPECT_NE(text.str().find(table), std::string::npos) << "docs/parallel.md must hold this table:\n" << table;
}

struct Example {
  const char* file;
  GridSizes sizes;
};

class Examples : public ::testing::TestWithParam<Example> {};

TEST_P(Examples, LoadsAsTheLayoutItIsNamedAfter) {
  const EngineConfig c = load_engine_config(std::filesystem::path("examples") / GetParam().file, {}, {});
  EXPECT_EQ(c.grid(), GetParam().sizes);
  EXPECT_THAT(c.notices, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    All, Examples,
    ::testing::Values(Example{"tp8.yaml", {.tensor = 8, .moe_tensor = 8}},
                      Example{"attention_dp8.yaml", {.tensor = 8, .attention_data = 8, .moe_tensor = 8}},
                      Example{"moe_tp8.yaml", {.tensor = 8, .moe_tensor = 8}},
                      Example{"moe_ep8.yaml", {.tensor = 8, .moe_expert = 8}},
                      Example{"moe_hybrid_4x2.yaml", {.tensor = 8, .moe_tensor = 4, .moe_expert = 2}},
                      Example{"pp2.yaml", {.pipeline = 2}}, Example{"dp2.yaml", {.data = 2}},
                      Example{"tp2_pp2.yaml", {.pipeline = 2, .tensor = 2, .moe_tensor = 2}},
                      Example{"hybrid_attention_dp.yaml",
                              {.tensor = 4, .attention_data = 4, .moe_tensor = 2, .moe_expert = 2}},
                      Example{"attention_dp_size.yaml", {.tensor = 4, .attention_data = 2, .moe_expert = 4}},
                      Example{"cp2.yaml", {.context = 2, .moe_tensor = 2}},
                      Example{"tp2_cp2_ep4.yaml", {.context = 2, .tensor = 2, .moe_expert = 4}},
                      Example{"wide_ep.yaml", {.tensor = 4, .attention_data = 4, .moe_expert = 4}}),
    [](const auto& example) {
      const std::string file = example.param.file;
      return file.substr(0, file.find('.'));
    });

// Every file has a row above, and one in the README.
TEST(ExamplesFolder, IsTestedAndDescribedWhole) {
  std::ifstream file("examples/README.md");
  std::stringstream readme;
  readme << file.rdbuf();
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("examples")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    EXPECT_THAT(readme.str(), HasSubstr("`" + entry.path().filename().string() + "`"));
  }
  EXPECT_EQ(count, 13u);
}

}  // namespace
}  // namespace shoal
