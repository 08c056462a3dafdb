// SPDX-License-Identifier: Apache-2.0
// Tokens recognised in the text itself before normalisation (or, if `normalized`, after it) and never split further: special tokens
// and whatever else was added to the vocabulary. The leftmost match wins, the longest where several begin.
// Immutable once built. Not here: what a special token means.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/vocab.h"

namespace shoal::text {

struct AddedToken {
  std::string content;
  int32_t id = kNoToken;
  bool special = false;
  bool normalized = false;   // look for it in the normalised text
  bool single_word = false;  // only between non-word characters
  bool lstrip = false;       // takes the white space on its left with it
  bool rstrip = false;
};

// A stretch of text, and the added token it is, or kNoToken.
struct Segment {
  size_t begin, end;
  int32_t id;
};

// A trie over bytes: finds added tokens in O(text * longest token).
class AddedTokenMatcher {
 public:
  // `content` is what to look for: the token's own, or its normalised form.
  void add(std::string_view content, const AddedToken& token);
  bool empty() const { return tokens_.empty(); }
  // Covers `text` from end to end, without empty segments.
  std::vector<Segment> split(std::string_view text) const;

 private:
  struct Hit {
    size_t end = 0;
    int32_t token = -1;  // index into tokens_
  };
  Hit longest_at(std::string_view text, size_t begin) const;
  int32_t child(int32_t node, unsigned char byte) const;

  std::unordered_map<uint64_t, int32_t> edges_;  // node << 8 | byte
  std::vector<int32_t> token_at_node_ = {-1};
  std::vector<AddedToken> tokens_;
  bool first_bytes_[256] = {};
};

}  // namespace shoal::text
