// SPDX-License-Identifier: Apache-2.0
// Prompts as users give them: a text, a chat message, or a file {"prompts": [...]} of token ids, strings and {"messages": [...]}.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace shoal {

struct PromptSources {
  std::vector<std::string> texts;
  std::vector<std::string> chats;  // each one user message
  std::string file;                // empty: none
};

struct Prompts {
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::string> labels;     // a short form of each, for messages
  std::optional<Tokenizer> tokenizer;  // the model's, if it has one
};

// Texts, then chats, then the file's, as token ids. Throws Error with every bad item, and if there is no prompt at all.
Prompts read_prompts(const std::filesystem::path& model_dir, const PromptSources& sources);

}  // namespace shoal
