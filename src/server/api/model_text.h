// SPDX-License-Identifier: Apache-2.0
// ModelText: what the API knows of a model besides its weights: tokenizer, chat template, grammars, sampling defaults, names. Immutable;
// outlives engines that fail and are built again.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/api/fields.h"
#include "text/chat_template.h"
#include "text/grammar/grammar.h"
#include "text/tokenizer.h"
#include "text/tool_calls.h"

namespace shoal {

struct ModelText {
  std::optional<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat;
  std::string chat_problem;                   // why there is no template
  AssistantFormat format;                     // of what the model answers in a chat
  std::unique_ptr<GrammarCompiler> grammars;  // null without a tokenizer
  SamplingParams defaults;                    // where a request says nothing
  Json sampling;                              // those of them that generation_config.json set
};

// `generation_config`: whether the directory's generation_config.json counts. Throws Error for files that are wrong.
std::shared_ptr<const ModelText> load_model_text(const std::filesystem::path& model_dir, bool generation_config);

}  // namespace shoal
