// SPDX-License-Identifier: Apache-2.0
// shoal score: the logits of every position of given prompts, into a safetensors file.
#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "apps/command.h"
#include "apps/logits_file.h"
#include "apps/prompts.h"
#include "apps/report.h"

namespace shoal {
namespace {

class Score : public Command {
 public:
  const char* name() const override { return "score"; }
  const char* summary() const override {
    return "Write the logits of every position of given prompts to a safetensors file";
  }

  void declare(CLI::App& app) override {
    app.add_option("MODEL", model_, "model directory: config.json, *.safetensors")->required();
    app.add_option("--input", sources_.file, R"(file {"prompts": [...]} of token ids, strings, or {"messages": [...]})")
        ->required();
    app.add_option("--output", output_, "file to write: logits_0, logits_1, ..., each F32 [tokens, vocabulary]")
        ->required();
    app.add_flag("--quiet", quiet_, "nothing on standard error but errors");
  }

  int run(const EngineConfig& config) override {
    const Prompts prompts = read_prompts(model_, sources_);
    std::vector<int64_t> tokens;
    for (const auto& ids : prompts.ids) tokens.push_back(std::ssize(ids));
    std::unique_ptr<LogitsFile> file;
    LoadBar bar;
    EngineHooks hooks;
    hooks.tokenizer = prompts.tokenizer;
    hooks.on_planned = [&](const Engine& engine) {
      engine.check_score(prompts.ids);
      file = std::make_unique<LogitsFile>(output_, tokens, engine.spec().vocab);
      if (!quiet_) print_layout(engine);
    };
    if (!quiet_) hooks.on_load = [&](int64_t done, int64_t total) { bar.update(done, total); };
    Engine engine(model_, config, hooks);
    const auto start = std::chrono::steady_clock::now();
    engine.score(prompts.ids,
                 [&](size_t index, const LogitRows& rows) { file->write(index, rows.first, rows.values); });
    file->commit();
    const int64_t counted = engine.write_expert_statistics();
    if (!quiet_) {
      print_speed(engine, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      print_expert_load(engine);
      print_expert_moves(engine);
      print_statistics(engine, counted);
    }
    return 0;
  }

 private:
  std::string model_;
  PromptSources sources_;
  std::string output_;
  bool quiet_ = false;
};

}  // namespace

std::unique_ptr<Command> score_command() { return std::make_unique<Score>(); }

}  // namespace shoal
