// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, from a model directory's tokenizer.json (and tokenizer_config.json, special_tokens_map.json), with
// the results of the Hugging Face tokenizers library. Models: BPE, byte-level or SentencePiece-style.
// Invariants: immutable after loading, every method usable from many threads, copies share the data. Input that is not UTF-8 is
// read with U+FFFD for each ill-formed part. An id that names no token decodes to U+FFFD.
// Not here: chat templates (chat_template.h), streaming (detokenizer.h); no clean-up of spaces after decoding.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/decoder.h"

namespace shoal {

class Tokenizer {
 public:
  struct Impl;  // opaque

  static Tokenizer load(const std::filesystem::path& model_dir);
  // From the contents of the files; `config_json` and `special_map_json` may be empty.
  static Tokenizer parse(std::string_view tokenizer_json, std::string_view config_json = {},
                         std::string_view special_map_json = {});

  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;
  // As `encode(text, true)`, for text that a chat template made: the ids before it (BOS) are left out if the text begins with
  // them itself, and nothing is put behind it.
  std::vector<int32_t> encode_rendered(std::string_view text) const;
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // Highest id + 1, added tokens included.
  int32_t vocab_size() const;
  std::optional<int32_t> id_of(std::string_view token) const;
  // The token as the file spells it; empty if there is none with this id.
  std::string_view token(int32_t id) const;
  // The bytes that the token stands for inside a text: "Ġthe" is " the", "<0xE4>" one byte. Empty if there is no such token.
  std::string token_bytes(int32_t id) const;
  bool is_special(int32_t id) const;

  // From tokenizer_config.json or special_tokens_map.json; empty, or no id, if neither names one.
  const std::string& bos_token() const;
  const std::string& eos_token() const;
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  // "bos_token", "eos_token", "unk_token", "pad_token", … and their text, for chat templates.
  const std::vector<std::pair<std::string, std::string>>& special_tokens() const;

  // A running decoder for the strings of `decode_text`; see detokenizer.h.
  text::DecodeStream decode_stream() const;
  // What the decoder is fed for an id: its token, or U+FFFD.
  std::string_view decode_text(int32_t id) const;

 private:
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace shoal
