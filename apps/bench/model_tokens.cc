// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/model_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "text/chat_template.h"

namespace shoal::bench {

namespace fs = std::filesystem;

ModelTokens::ModelTokens(const fs::path& model_dir) : model_dir_(model_dir) {
  if (!fs::is_directory(model_dir))
    throw Error(ErrorKind::kInvalid,
                model_dir.string() + " is not a directory; give a model directory with config.json");
  if (fs::exists(model_dir / "tokenizer.json")) tokenizer_ = Tokenizer::load(model_dir);
}

TextTokens ModelTokens::text_tokens(int64_t vocab) const {
  TextTokens tokens;
  const int64_t known = tokenizer_ ? std::min<int64_t>(vocab, tokenizer_->vocab_size()) : vocab;
  for (int64_t id = 0; id < known; ++id) {
    const auto token = static_cast<int32_t>(id);
    if (tokenizer_ && (tokenizer_->is_special(token) || tokenizer_->token(token).empty())) continue;
    tokens.ordinary.push_back(token);
  }
  const auto need = [this]() -> const Tokenizer& {
    if (tokenizer_) return *tokenizer_;
    throw Error(ErrorKind::kInvalid,
                (model_dir_ / "tokenizer.json").string() + " is missing; give token ids (input_ids)");
  };
  tokens.encode = [need](const std::string& text) { return need().encode(text, true); };
  tokens.encode_chat = [need, dir = model_dir_](const nlohmann::ordered_json& messages) {
    ChatOptions options;
    options.add_generation_prompt = true;
    options.set_special_tokens(need());
    return encode_chat(need(), ChatTemplate::load(dir), messages, options);
  };
  return tokens;
}

}  // namespace shoal::bench
