// SPDX-License-Identifier: Apache-2.0
// Inside of Tokenizer: the parts of tokenizer.json, and the names that tokenizer_config.json gives to special tokens.
// Private to tokenizer.cc and tokenizer_load.cc.
#pragma once

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace shoal {

struct Tokenizer::Impl {
  explicit Impl(text::Json json);

  void add_token(text::AddedToken token);
  // After the last add_token: builds the matchers.
  void index_added_tokens();
  int32_t find(std::string_view token) const;

  void encode(std::string_view text, std::vector<int32_t>& out) const;
  void encode_plain(std::string_view text, bool at_beginning, std::vector<int32_t>& out) const;

  text::Normalizer normalizer;
  text::PreTokenizer pre_tokenizer;
  text::Bpe model;
  text::PostProcessor post_processor;
  text::Decoder decoder;
  bool byte_fallback_decoder = false, byte_level_decoder = false;  // what token_bytes has to undo

  std::vector<text::AddedToken> added;
  std::unordered_map<std::string, int32_t> added_ids;       // content -> id
  std::unordered_map<int32_t, size_t> added_by_id;          // id -> index into `added`
  text::AddedTokenMatcher raw_matcher, normalized_matcher;  // by AddedToken::normalized
  int32_t id_count = 0;

  std::vector<std::pair<std::string, std::string>> special_names;
  std::string bos, eos;
};

}  // namespace shoal
