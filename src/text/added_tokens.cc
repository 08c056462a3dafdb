// SPDX-License-Identifier: Apache-2.0
#include "text/added_tokens.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "text/utf8.h"

namespace shoal::text {
namespace {

bool is_word_character(char32_t c) {
  const auto u = static_cast<UChar32>(c);
  const uint32_t marks_digits_and_connectors = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_hasBinaryProperty(u, UCHAR_ALPHABETIC) || u_hasBinaryProperty(u, UCHAR_JOIN_CONTROL) ||
         (U_GET_GC_MASK(u) & marks_digits_and_connectors) != 0;
}

size_t begin_of_last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (text[begin] & 0xC0) == 0x80) --begin;
  return begin;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0) {
    size_t at = begin_of_last_character(text.substr(0, begin));
    if (is_word_character(next_code_point(text, at))) return false;
  }
  return end == text.size() || !is_word_character(next_code_point(text, end));
}

size_t skip_spaces_back(std::string_view text, size_t from, size_t floor) {
  while (from > floor) {
    const size_t begin = begin_of_last_character(text.substr(0, from));
    size_t at = begin;
    if (!is_white_space(next_code_point(text, at))) break;
    from = begin;
  }
  return std::max(from, floor);
}

size_t skip_spaces(std::string_view text, size_t from) {
  while (from < text.size()) {
    size_t next = from;
    if (!is_white_space(next_code_point(text, next))) break;
    from = next;
  }
  return from;
}

}  // namespace

void AddedTokenMatcher::add(std::string_view content, const AddedToken& token) {
  if (content.empty()) return;
  int32_t node = 0;
  for (const char byte : content) {
    const auto fresh = static_cast<int32_t>(token_at_node_.size());
    const uint64_t edge = static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(byte);
    const auto [it, added] = edges_.try_emplace(edge, fresh);
    if (added) token_at_node_.push_back(-1);
    node = it->second;
  }
  first_bytes_[static_cast<unsigned char>(content[0])] = true;
  if (token_at_node_[node] >= 0) return;  // the first of equal contents keeps it
  token_at_node_[node] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

int32_t AddedTokenMatcher::child(int32_t node, unsigned char byte) const {
  const auto it = edges_.find(static_cast<uint64_t>(node) << 8 | byte);
  return it == edges_.end() ? -1 : it->second;
}

AddedTokenMatcher::Hit AddedTokenMatcher::longest_at(std::string_view text, size_t begin) const {
  Hit hit;
  int32_t node = 0;
  for (size_t at = begin; at < text.size(); ++at) {
    node = child(node, static_cast<unsigned char>(text[at]));
    if (node < 0) break;
    if (token_at_node_[node] >= 0) hit = {at + 1, token_at_node_[node]};
  }
  return hit;
}

std::vector<Segment> AddedTokenMatcher::split(std::string_view text) const {
  std::vector<Segment> segments;
  size_t done = 0;  // everything before is in `segments`
  for (size_t at = 0; at < text.size() && !tokens_.empty();) {
    const Hit hit = first_bytes_[static_cast<unsigned char>(text[at])] ? longest_at(text, at) : Hit{};
    if (hit.token < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[hit.token];
    size_t begin = at;
    size_t end = hit.end;
    at = hit.end;  // a match turned down still hides what overlaps it
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    if (token.lstrip) begin = skip_spaces_back(text, begin, done);
    if (token.rstrip) end = skip_spaces(text, end);
    if (end <= done) continue;  // eaten by the token before
    begin = std::max(begin, done);
    if (done < begin) segments.push_back({done, begin, kNoToken});
    segments.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) segments.push_back({done, text.size(), kNoToken});
  return segments;
}

}  // namespace shoal::text
