// SPDX-License-Identifier: Apache-2.0
#include "text/post_processor.h"

#include "text/vocab.h"

namespace shoal::text {
namespace {

int32_t id_of(Json value, std::string_view where) {
  int64_t id = 0;
  if (value.get(id) != simdjson::SUCCESS || id < 0 || id >= kMaxId) wrong_json(where, "must be a token id");
  return static_cast<int32_t>(id);
}

// ["[SEP]", 102]
int32_t id_of_pair(Json processor, std::string_view name) {
  const simdjson::dom::array pair = get_array(processor, name);
  if (pair.size() != 2) wrong_json(name, "must be [token, id]");
  return id_of(pair.at(1), name);
}

}  // namespace

void PostProcessor::add(Json json) {
  const std::string_view type = get_string(json, "type");
  if (type == "Sequence") {
    for (const Json step : get_array(json, "processors")) add(step);
  } else if (type == "TemplateProcessing") {
    add_template(json);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    prefix.insert(prefix.begin(), id_of_pair(json, "cls"));
    suffix.push_back(id_of_pair(json, "sep"));
  } else if (type != "ByteLevel") {
    throw Error(ErrorKind::kUnsupported,
                "tokenizer.json: post_processor type '" + std::string(type) + "' is not supported");
  }
}

// A later step of a Sequence wraps what the earlier ones made.
void PostProcessor::add_template(Json json) {
  std::vector<int32_t> before, after;
  bool seen_text = false;
  Json tokens;
  const bool has_tokens = find_member(json, "special_tokens", tokens);
  for (const Json piece : get_array(json, "single")) {
    Json part, token;
    if (find_member(piece, "Sequence", part)) {
      if (seen_text || get_string(part, "id") != "A")
        wrong_json("post_processor.single", "must have the sequence A once");
      seen_text = true;
      continue;
    }
    if (!find_member(piece, "SpecialToken", part)) wrong_json("post_processor.single", "has an unknown piece");
    if (!has_tokens || !find_member(tokens, get_string(part, "id"), token))
      wrong_json("post_processor.special_tokens", "lacks '" + std::string(get_string(part, "id")) + "'");
    for (const Json id : get_array(token, "ids"))
      (seen_text ? after : before).push_back(id_of(id, "special_tokens.ids"));
  }
  if (!seen_text) wrong_json("post_processor.single", "must have the sequence A once");
  prefix.insert(prefix.begin(), before.begin(), before.end());
  suffix.insert(suffix.end(), after.begin(), after.end());
}

}  // namespace shoal::text
