// SPDX-License-Identifier: Apache-2.0
// /tokenize, /detokenize and /apply-template, in the forms that vLLM's and llama.cpp's users know.
#include "server/api/api.h"
#include "text/utf8.h"

namespace shoal {

Json tokenize(const Json& body, const ModelText& model, int64_t max_seq_len) {
  Fields fields(body);
  fields.text("model");
  std::vector<int32_t> ids;
  if (fields.any("messages") != nullptr) {
    ids = render_chat(fields, model).ids;
  } else {
    const bool llama = fields.any("content") != nullptr;
    const auto text = llama ? fields.text("content") : fields.text("prompt");
    if (!text) fields.fail("prompt", "a string; or give messages");
    const auto special =
        llama ? fields.boolean("add_special").value_or(false) : fields.boolean("add_special_tokens").value_or(true);
    ids = need_tokenizer(model, "prompt").encode(*text, special);
  }
  const bool names = fields.boolean("return_token_strs").value_or(false);
  const bool pieces = fields.boolean("with_pieces").value_or(false);
  Json answer = {
      {"count", ids.size()}, {"max_model_len", max_seq_len > 0 ? Json(max_seq_len) : Json()}, {"tokens", ids}};
  if (!names && !pieces) return answer;
  Json strings = Json::array(), with_pieces = Json::array();
  for (const int32_t id : ids) {
    std::string bytes = model.tokenizer->token_bytes(id);
    if (bytes.empty()) bytes = model.tokenizer->token(id);
    strings.push_back(bytes);
    Json piece = bytes;
    if (!text::is_valid_utf8(bytes)) piece = std::vector<uint8_t>(bytes.begin(), bytes.end());
    with_pieces.push_back({{"id", id}, {"piece", std::move(piece)}});
  }
  if (names) answer["token_strs"] = std::move(strings);
  if (pieces) answer["tokens"] = std::move(with_pieces);
  return answer;
}

Json detokenize(const Json& body, const ModelText& model) {
  constexpr size_t kMostTokens = size_t{1} << 24;
  Fields fields(body);
  fields.text("model");
  if (fields.any("tokens") == nullptr) fields.fail("tokens", "a list of token ids");
  const std::vector<int32_t> ids = fields.token_ids("tokens", kMostTokens);
  const bool skip = fields.boolean("skip_special_tokens").value_or(false);
  const std::string text = need_tokenizer(model, "tokens").decode(ids, skip);
  return {{"prompt", text}, {"content", text}};
}

Json apply_template(const Json& body, const ModelText& model) {
  Fields fields(body);
  const RenderedChat chat = render_chat(fields, model);
  return {{"prompt", chat.text}, {"count", chat.ids.size()}};
}

}  // namespace shoal
