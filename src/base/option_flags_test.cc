// SPDX-License-Identifier: Apache-2.0
#include "base/option_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace shoal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class OptionFlags : public ::testing::Test {
 protected:
  SplitArguments split(const std::vector<std::string>& arguments) { return split_arguments(arguments, table_, own_); }
  // "option=value" of each flag found.
  std::vector<std::string> options(const std::vector<std::string>& arguments) {
    std::vector<std::string> result;
    for (const FlagValue& flag : split(arguments).flags) result.push_back(flag.option + "=" + flag.value);
    return result;
  }
  std::string error_of(const std::vector<std::string>& arguments) {
    try {
      split(arguments);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }

  int64_t tp_ = 1;
  bool adp_ = false;
  std::optional<int64_t> moe_tp_;
  OptionTable table_{{{.name = "tensor_parallel_size", .field = &tp_, .help = "", .aliases = {"tp", "tp_size"}},
                      {.name = "enable_attention_dp", .field = &adp_, .help = "", .aliases = {"adp"}},
                      {.name = "cache.max_tokens", .field = &moe_tp_, .help = ""}}};
  std::vector<OwnFlag> own_ = {{"--prompt"}, {"--max-tokens"}, {"--json", false}, {"-o"}};
};

TEST_F(OptionFlags, EveryUsualSpelling) {
  for (const char* flag :
       {"--tp", "-tp", "--TP", "--tp_size", "--tp-size", "--tensor-parallel-size", "--tensor_parallel_size"}) {
    EXPECT_THAT(options({flag, "4"}), ElementsAre("tensor_parallel_size=4")) << flag;
    EXPECT_THAT(options({std::string(flag) + "=4"}), ElementsAre("tensor_parallel_size=4")) << flag;
  }
  EXPECT_THAT(options({"--cache.max_tokens", "-1"}), ElementsAre("cache.max_tokens=-1"));
  EXPECT_EQ(split({"-tp", "4"}).flags[0].spelling, "-tp");
}

TEST_F(OptionFlags, BooleansBareAndWithAValue) {
  EXPECT_THAT(options({"--adp"}), ElementsAre("enable_attention_dp=true"));
  EXPECT_THAT(options({"--adp", "false"}), ElementsAre("enable_attention_dp=false"));
  EXPECT_THAT(options({"--enable_attention_dp=false"}), ElementsAre("enable_attention_dp=false"));
  EXPECT_THAT(options({"--no-adp"}), ElementsAre("enable_attention_dp=false"));
  EXPECT_THAT(split({"--adp", "models/x"}).rest, ElementsAre("models/x"));
}

TEST_F(OptionFlags, TheRestKeepsItsOrderAndOwnFlagsTheirSpelling) {
  const SplitArguments split = this->split({"generate", "m", "-tp", "2", "--max_tokens", "5", "--json", "-o", "f"});
  EXPECT_THAT(split.rest, ElementsAre("generate", "m", "--max-tokens=5", "--json", "-o", "f"));
}

TEST_F(OptionFlags, ValuesOfOwnFlagsAreNotLookedAt) {
  EXPECT_THAT(split({"--prompt", "--tp", "--tp", "2"}).rest, ElementsAre("--prompt=--tp"));
  EXPECT_THAT(split({"--prompt=-tp=3"}).rest, ElementsAre("--prompt=-tp=3"));
  EXPECT_THAT(split({"a", "--", "--tp", "4"}).rest, ElementsAre("a", "--", "--tp", "4"));
  EXPECT_THAT(split({"-", "-1", ""}).rest, ElementsAre("-", "-1", ""));
}

TEST_F(OptionFlags, ConfigFileUnderBothNames) {
  EXPECT_EQ(split({"--config", "a.yaml"}).config_file, "a.yaml");
  EXPECT_EQ(split({"--extra_llm_api_options", "a.yaml"}).config_file, "a.yaml");
  EXPECT_EQ(split({"--extra-llm-api-options=a.yaml"}).config_file, "a.yaml");
  EXPECT_EQ(split({}).config_file, std::nullopt);
}

TEST_F(OptionFlags, AllProblemsAtOnce) {
  const std::string text = error_of({"--tpp=2", "--jsn", "--tp", "--adp", "--config"});
  EXPECT_THAT(text, HasSubstr("unknown flag --tpp; the nearest known is --tp"));
  EXPECT_THAT(text, HasSubstr("unknown flag --jsn; the nearest known is --json"));
  EXPECT_THAT(text, HasSubstr("--tp needs a value: a whole number"));
  EXPECT_THAT(text, HasSubstr("--config needs a value: a file"));
}

}  // namespace
}  // namespace shoal
