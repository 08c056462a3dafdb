// SPDX-License-Identifier: Apache-2.0
// Reading of tokenizer.json, tokenizer_config.json and special_tokens_map.json.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json_file.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace shoal {
namespace {

using text::Json;
using Config = nlohmann::ordered_json;

std::string read_if_present(const std::filesystem::path& path) {
  return std::filesystem::is_regular_file(path) ? read_text_file(path) : std::string();
}

Config parse_config(std::string_view text, const char* name) {
  if (text.empty()) return Config::object();
  Config config = Config::parse(text, nullptr, false);
  if (!config.is_object()) throw Error(ErrorKind::kInvalid, std::string(name) + " must be a JSON object");
  return config;
}

Json member_or_null(Json object, std::string_view name, bool& present) {
  Json member;
  present = text::find_member(object, name, member);
  return member;
}

template <typename Part>
Part part_of(Json json, std::string_view name) {
  bool present = false;
  const Json member = member_or_null(json, name, present);
  return present ? Part(member) : Part();
}

Json model_of(Json json) {
  Json model;
  if (!text::find_member(json, "model", model) || !model.is_object()) text::wrong_json("model", "must be an object");
  const std::string_view type = text::get_string(model, "type", "BPE");
  Json merges;
  if (type != "BPE" || !text::find_member(model, "merges", merges))
    throw Error(ErrorKind::kUnsupported,
                "tokenizer.json: model type '" + std::string(type) + "' is not supported, only BPE is");
  return model;
}

bool has_decoder(Json json, std::string_view type) {
  Json decoder, steps;
  if (!text::find_member(json, "decoder", decoder)) return false;
  if (text::get_string(decoder, "type") == type) return true;
  if (!text::find_member(decoder, "decoders", steps) || !steps.is_array()) return false;
  const simdjson::dom::array list = text::get_array(decoder, "decoders");
  return std::any_of(list.begin(), list.end(), [&](Json step) { return text::get_string(step, "type") == type; });
}

bool flag(const Config& json, const char* name, bool fallback = false) {
  const auto it = json.find(name);
  return it != json.end() && it->is_boolean() ? it->get<bool>() : fallback;
}

// A token is a string or an object with "content".
std::string token_text(const Config& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_object()) return {};
  const auto it = value.find("content");
  return it != value.end() && it->is_string() ? it->get<std::string>() : std::string();
}

// Tokens that only tokenizer_config.json lists.
void add_config_tokens(const Config& config, Tokenizer::Impl& impl);

}  // namespace

Tokenizer::Impl::Impl(Json json)
    : normalizer(part_of<text::Normalizer>(json, "normalizer")),
      pre_tokenizer(part_of<text::PreTokenizer>(json, "pre_tokenizer")),
      model(model_of(json)),
      post_processor(part_of<text::PostProcessor>(json, "post_processor")),
      decoder(part_of<text::Decoder>(json, "decoder")),
      byte_fallback_decoder(has_decoder(json, "ByteFallback")),
      byte_level_decoder(has_decoder(json, "ByteLevel")) {
  id_count = model.vocab().id_count();
  Json list;
  if (!text::find_member(json, "added_tokens", list)) return;
  for (const Json item : text::get_array(json, "added_tokens")) {
    const int64_t id = text::get_int(item, "id", -1);
    if (id < 0 || id >= text::kMaxId) text::wrong_json("added_tokens.id", "must be a token id");
    const bool special = text::get_bool(item, "special", false);
    add_token({.content = std::string(text::get_string(item, "content")),
               .id = static_cast<int32_t>(id),
               .special = special,
               .normalized = text::get_bool(item, "normalized", !special),
               .single_word = text::get_bool(item, "single_word", false),
               .lstrip = text::get_bool(item, "lstrip", false),
               .rstrip = text::get_bool(item, "rstrip", false)});
  }
}

// The model's own id wins over the list's, as in the reference library.
void Tokenizer::Impl::add_token(text::AddedToken token) {
  if (token.content.empty() || added_ids.contains(token.content)) return;
  const int32_t own = model.vocab().find(token.content);
  if (own != text::kNoToken) token.id = own;
  added_ids[token.content] = token.id;
  added_by_id[token.id] = added.size();
  id_count = std::max(id_count, token.id + 1);
  added.push_back(std::move(token));
}

void Tokenizer::Impl::index_added_tokens() {
  for (const bool special : {true, false}) {
    for (const text::AddedToken& token : added) {
      if (token.special != special) continue;
      if (token.normalized) {
        normalized_matcher.add(normalizer(token.content), token);
      } else {
        raw_matcher.add(token.content, token);
      }
    }
  }
}

int32_t Tokenizer::Impl::find(std::string_view token) const {
  const auto it = added_ids.find(std::string(token));
  return it != added_ids.end() ? it->second : model.vocab().find(token);
}

namespace {

void add_config_tokens(const Config& config, Tokenizer::Impl& impl) {
  const auto list = config.find("added_tokens_decoder");
  if (list == config.end() || !list->is_object()) return;
  for (const auto& [key, value] : list->items()) {
    const bool digits = !key.empty() && key.size() < 8 && key.find_first_not_of("0123456789") == std::string::npos;
    const int64_t id = digits ? std::stoll(key) : text::kMaxId;
    if (id >= text::kMaxId)
      throw Error(ErrorKind::kInvalid, "tokenizer_config.json: added_tokens_decoder has '" + key + "', not a token id");
    if (impl.added_by_id.contains(static_cast<int32_t>(id))) continue;
    const bool special = flag(value, "special");
    impl.add_token({.content = token_text(value),
                    .id = static_cast<int32_t>(id),
                    .special = special,
                    .normalized = flag(value, "normalized", !special),
                    .single_word = flag(value, "single_word"),
                    .lstrip = flag(value, "lstrip"),
                    .rstrip = flag(value, "rstrip")});
  }
}

void name_special_tokens(const Config& config, Tokenizer::Impl& impl) {
  for (const auto& [key, value] : config.items()) {
    if (!key.ends_with("_token") || key.starts_with("add_")) continue;
    const std::string content = token_text(value);
    const auto same = [&key = key](const auto& named) { return named.first == key; };
    if (content.empty() || std::any_of(impl.special_names.begin(), impl.special_names.end(), same)) continue;
    impl.special_names.emplace_back(key, content);
    if (key == "bos_token") impl.bos = content;
    if (key == "eos_token") impl.eos = content;
  }
}

}  // namespace

Tokenizer Tokenizer::parse(std::string_view tokenizer_json, std::string_view config_json,
                           std::string_view special_map_json) {
  const Config config = parse_config(config_json, "tokenizer_config.json");
  const Config special_map = parse_config(special_map_json, "special_tokens_map.json");
  simdjson::dom::parser parser;
  Json json;
  const simdjson::padded_string padded(tokenizer_json);
  const simdjson::error_code status = parser.parse(padded).get(json);
  if (status != simdjson::SUCCESS || !json.is_object())
    throw Error(ErrorKind::kInvalid,
                std::string("tokenizer.json is not a JSON object: ") + simdjson::error_message(status));
  try {
    auto impl = std::make_shared<Impl>(json);
    add_config_tokens(config, *impl);
    impl->index_added_tokens();
    name_special_tokens(config, *impl);
    name_special_tokens(special_map, *impl);
    return Tokenizer(std::move(impl));
  } catch (const simdjson::simdjson_error& error) {
    throw Error(ErrorKind::kInvalid, std::string("tokenizer.json: ") + error.what());
  }
}

Tokenizer Tokenizer::load(const std::filesystem::path& model_dir) {
  const std::filesystem::path path = model_dir / "tokenizer.json";
  if (!std::filesystem::is_regular_file(path))
    throw Error(ErrorKind::kInvalid, path.string() + ": no such file; a model directory needs a tokenizer.json");
  try {
    return parse(read_text_file(path), read_if_present(model_dir / "tokenizer_config.json"),
                 read_if_present(model_dir / "special_tokens_map.json"));
  } catch (const Error& error) {
    throw Error(error.kind(), model_dir.string() + ": " + error.what());
  }
}

}  // namespace shoal
