// SPDX-License-Identifier: Apache-2.0
// shoal generate: completions and chats on standard output, as text or as one JSON object a line.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/command.h"
#include "apps/prompts.h"
#include "apps/report.h"
#include "base/error.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

const char* reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
    case FinishReason::kNone:
      break;
  }
  return "none";
}

Json result_json(size_t index, const GenerationResult& result, bool alternatives) {
  Json object = {
      {"index", index},      {"prompt_token_ids", result.prompt_token_ids},        {"token_ids", result.token_ids},
      {"text", result.text}, {"finish_reason", reason_name(result.finish_reason)}, {"logprobs", Json::array()}};
  for (const TokenLogprob& token : result.logprobs) object["logprobs"].push_back(token.logprob);
  if (alternatives) {
    Json& rows = object["top_logprobs"] = Json::array();
    for (const TokenLogprob& token : result.logprobs) {
      Json row = Json::array();
      for (const auto& [id, logprob] : token.top) row.push_back({{"token_id", id}, {"logprob", logprob}});
      rows.push_back(std::move(row));
    }
  }
  if (!result.error.empty()) object["error"] = result.error;
  return object;
}

void write_out(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

class Generate : public Command {
 public:
  const char* name() const override { return "generate"; }
  const char* summary() const override {
    return "Complete prompts: text on standard output, or one JSON object a line";
  }

  void declare(CLI::App& app) override {
    app.add_option("MODEL", model_, "model directory: config.json, *.safetensors, tokenizer.json")->required();
    app.add_option("--prompt", sources_.texts, "text to complete; may be repeated")->allow_extra_args(false);
    app.add_option("--chat", sources_.chats, "user message to answer, by the model's chat template; may be repeated")
        ->allow_extra_args(false);
    app.add_option("--prompts", sources_.file,
                   R"(file {"prompts": [...]} of strings, token ids, or {"messages": [...]})");
    app.add_option("--max-tokens", params_.max_tokens, "tokens to generate at most")->capture_default_str();
    declare_sampling(app);
    app.add_flag("--json", json_,
                 "one object a line: index, prompt_token_ids, token_ids, text, finish_reason, logprobs");
    app.add_flag("--stream,!--no-stream", stream_, "print the text of a single prompt as it comes (default)");
    app.add_flag("--quiet", quiet_, "nothing on standard error but errors");
  }

  int run(const EngineConfig& config) override {
    if (seed_) params_.seed = *seed_;
    const Prompts prompts = read_prompts(model_, sources_);
    if (!json_ && !prompts.tokenizer)
      throw Error(ErrorKind::kInvalid,
                  model_ + " has no tokenizer.json, so there is no text; use --json for token ids");
    EngineHooks hooks;
    LoadBar bar;
    hooks.tokenizer = prompts.tokenizer;
    hooks.on_planned = [&](const Engine& engine) {
      engine.check(prompts.ids, params_);
      if (!quiet_) print_layout(engine);
    };
    if (!quiet_) hooks.on_load = [&](int64_t done, int64_t total) { bar.update(done, total); };
    Engine engine(model_, config, hooks);
    return answer(engine, prompts);
  }

 private:
  void declare_sampling(CLI::App& app) {
    app.add_option("--temperature", params_.temperature, "0: the likeliest token always")->capture_default_str();
    app.add_option("--top-p", params_.top_p, "only the likeliest tokens that together have this probability")
        ->capture_default_str();
    app.add_option("--top-k", params_.top_k, "only the K likeliest tokens; 0: all")->capture_default_str();
    app.add_option("--min-p", params_.min_p, "only tokens at least this likely relative to the likeliest")
        ->capture_default_str();
    app.add_option("--repetition-penalty", params_.repetition_penalty, "divides logits of tokens of prompt and output")
        ->capture_default_str();
    app.add_option("--presence-penalty", params_.presence_penalty, "subtracted once from tokens of the output")
        ->capture_default_str();
    app.add_option("--frequency-penalty", params_.frequency_penalty, "subtracted for each time in the output")
        ->capture_default_str();
    app.add_option("--seed", seed_, "of the random numbers; else drawn");
    app.add_option("--stop", params_.stop, "text that ends the output; may be repeated")->allow_extra_args(false);
    app.add_flag("--ignore-eos", params_.ignore_eos, "go on after the model's end tokens");
    app.add_option("--logprobs", params_.logprobs, "with --json: as many of the likeliest tokens at each place")
        ->capture_default_str();
  }

  int answer(Engine& engine, const Prompts& prompts) {
    const bool streaming = stream_ && !json_ && prompts.ids.size() == 1;
    Engine::OnOutput on_output;
    if (streaming) on_output = [](size_t, const OutputDelta& delta) { write_out(delta.text); };
    const auto start = std::chrono::steady_clock::now();
    const std::vector<GenerationResult> results = engine.generate(prompts.ids, params_, on_output);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (size_t i = 0; i < results.size(); ++i) print(i, results[i], prompts, streaming);
    const int64_t counted = engine.write_expert_statistics();
    if (!quiet_) {
      print_speed(engine, seconds);
      print_expert_load(engine);
      print_expert_moves(engine);
      print_statistics(engine, counted);
    }
    for (const GenerationResult& result : results)
      if (result.finish_reason == FinishReason::kError) throw EngineFailure(result.error);
    return 0;
  }

  void print(size_t index, const GenerationResult& result, const Prompts& prompts, bool streamed) const {
    if (json_) {
      write_out(result_json(index, result, params_.logprobs > 0).dump(-1, ' ', false, Json::error_handler_t::replace) +
                "\n");
      return;
    }
    if (!quiet_ && prompts.ids.size() > 1)
      std::fprintf(stderr, "--- prompt %zu of %zu (%s)\n", index + 1, prompts.ids.size(),
                   prompts.labels[index].c_str());
    write_out(streamed ? "\n" : result.text + "\n");
  }

  std::string model_;
  PromptSources sources_;
  SamplingParams params_;
  std::optional<uint64_t> seed_;
  bool json_ = false;
  bool stream_ = true;
  bool quiet_ = false;
};

}  // namespace

std::unique_ptr<Command> generate_command() { return std::make_unique<Generate>(); }

}  // namespace shoal
