// SPDX-License-Identifier: Apache-2.0
#include "server/api/model_text.h"

#include "base/error.h"
#include "base/json_file.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

// The keys that transformers and other servers read from generation_config.json.
void read_defaults(const fs::path& file, ModelText& text) {
  if (!fs::exists(file)) return;
  const nlohmann::json config = read_json_file(file);
  if (!config.is_object()) return;
  const auto take = [&](const char* name, auto& field) {
    const auto found = config.find(name);
    if (found == config.end() || !found->is_number()) return;
    field = found->get<std::decay_t<decltype(field)>>();
    text.sampling[name] = field;
  };
  take("temperature", text.defaults.temperature);
  take("top_p", text.defaults.top_p);
  take("top_k", text.defaults.top_k);
  take("min_p", text.defaults.min_p);
  take("repetition_penalty", text.defaults.repetition_penalty);
}

}  // namespace

std::shared_ptr<const ModelText> load_model_text(const fs::path& model_dir, bool generation_config) {
  auto text = std::make_shared<ModelText>();
  text->defaults.temperature = 1.0f;
  text->sampling = Json::object();
  if (generation_config) read_defaults(model_dir / "generation_config.json", *text);
  if (!fs::exists(model_dir / "tokenizer.json")) {
    text->chat_problem = "the model has no tokenizer.json";
    return text;
  }
  text->tokenizer = Tokenizer::load(model_dir);
  text->grammars = std::make_unique<GrammarCompiler>(*text->tokenizer);
  try {
    text->chat = ChatTemplate::load(model_dir);
    text->format = assistant_format(text->chat->source());
  } catch (const Error& error) {
    text->chat_problem = error.what();
  }
  return text;
}

}  // namespace shoal
