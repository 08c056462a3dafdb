// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/token_trie.h"

#include <algorithm>
#include <numeric>

namespace shoal::text {
namespace {

constexpr size_t kMaxTokenBytes =
    254;  // longer ones (runs of blanks, mostly) are left out: whatever they say can be said in pieces

size_t common_prefix(std::string_view a, std::string_view b) {
  const size_t length = std::min(a.size(), b.size());
  size_t common = 0;
  while (common < length && a[common] == b[common]) ++common;
  return common;
}

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer) {
  const int32_t count = tokenizer.vocab_size();
  same_bytes_.assign(count, -1);
  begins_.reserve(count + 1);
  for (int32_t id = 0; id < count; ++id) {
    begins_.push_back(arena_.size());
    if (tokenizer.is_special(id)) continue;
    const std::string bytes = tokenizer.token_bytes(id);
    if (bytes.size() <= kMaxTokenBytes) arena_ += bytes;
  }
  begins_.push_back(arena_.size());

  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::erase_if(order, [&](int32_t id) { return bytes(id).empty(); });
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const int compared = bytes(a).compare(bytes(b));
    return compared != 0 ? compared < 0 : a < b;
  });
  nodes_.emplace_back();
  std::vector<int32_t> path = {0};  // nodes from the root to where the last token ended
  std::string_view last;
  for (const int32_t id : order) {
    const size_t common = common_prefix(last, bytes(id));
    for (; path.size() > common + 1; path.pop_back()) nodes_[path.back()].end = static_cast<int32_t>(nodes_.size());
    add(bytes(id), id, path);
    last = bytes(id);
  }
  for (; !path.empty(); path.pop_back()) nodes_[path.back()].end = static_cast<int32_t>(nodes_.size());
}

// `path` leads to the longest prefix of `bytes` that has nodes.
void TokenTrie::add(std::string_view bytes, int32_t token, std::vector<int32_t>& path) {
  while (path.size() <= bytes.size()) {
    const size_t depth = path.size();
    path.push_back(static_cast<int32_t>(nodes_.size()));
    nodes_.push_back({.byte = static_cast<uint8_t>(bytes[depth - 1]), .depth = static_cast<uint8_t>(depth)});
  }
  int32_t* tail = &nodes_[path.back()].token;
  while (*tail >= 0) tail = &same_bytes_[*tail];
  *tail = token;
}

}  // namespace shoal::text
