// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <algorithm>

#include "text/byte_level.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace shoal {

// Words of one text often repeat ("the", "    "), so the ids of short ones are kept for the length of the call.
namespace {

class WordCache {
 public:
  explicit WordCache(const text::Bpe& model) : model_(model), entries_(kEntries) {}

  void encode(std::string_view word, std::vector<int32_t>& out) {
    if (word.size() > kLongest) return model_.encode(word, out);
    Entry& entry = entries_[text::hash_bytes(word) >> 54];
    if (std::string_view(entry.word, entry.size) != word || entry.size == 0) {
      ids_.clear();
      model_.encode(word, ids_);
      if (ids_.size() > kMostIds) {
        out.insert(out.end(), ids_.begin(), ids_.end());
        return;
      }
      std::copy(word.begin(), word.end(), entry.word);
      entry.size = static_cast<uint8_t>(word.size());
      std::copy(ids_.begin(), ids_.end(), entry.ids);
      entry.count = static_cast<uint8_t>(ids_.size());
    }
    out.insert(out.end(), entry.ids, entry.ids + entry.count);
  }

 private:
  static constexpr size_t kEntries = 1024, kLongest = 30, kMostIds = 8;
  struct Entry {
    char word[kLongest];
    uint8_t size = 0, count = 0;
    int32_t ids[kMostIds];
  };
  const text::Bpe& model_;
  std::vector<Entry> entries_;
  std::vector<int32_t> ids_;
};

constexpr size_t kWorthACache = 256;  // words; below, clearing the cache costs more than it saves

}  // namespace

void Tokenizer::Impl::encode_plain(std::string_view text, bool at_beginning, std::vector<int32_t>& out) const {
  const text::Words words = pre_tokenizer(std::string(text), at_beginning);
  const std::string_view all = words.text;
  if (words.spans.size() < kWorthACache) {
    for (const auto [begin, end] : words.spans) model.encode(all.substr(begin, end - begin), out);
    return;
  }
  WordCache cache(model);
  for (const auto [begin, end] : words.spans) cache.encode(all.substr(begin, end - begin), out);
}

void Tokenizer::Impl::encode(std::string_view input, std::vector<int32_t>& out) const {
  const std::string repaired = text::repair_utf8(input);
  for (const text::Segment& segment : raw_matcher.split(repaired)) {
    if (segment.id != text::kNoToken) {
      out.push_back(segment.id);
      continue;
    }
    const std::string normalized =
        normalizer(std::string_view(repaired).substr(segment.begin, segment.end - segment.begin));
    for (const text::Segment& inner : normalized_matcher.split(normalized)) {
      if (inner.id != text::kNoToken) {
        out.push_back(inner.id);
      } else {
        const bool at_beginning = segment.begin == 0 && inner.begin == 0;
        encode_plain(std::string_view(normalized).substr(inner.begin, inner.end - inner.begin), at_beginning, out);
      }
    }
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<int32_t> ids;
  const text::PostProcessor& post = impl_->post_processor;
  if (add_special_tokens) ids = post.prefix;
  impl_->encode(text, ids);
  if (add_special_tokens) ids.insert(ids.end(), post.suffix.begin(), post.suffix.end());
  return ids;
}

std::vector<int32_t> Tokenizer::encode_rendered(std::string_view text) const {
  std::vector<int32_t> ids = encode(text, false);
  const std::vector<int32_t>& prefix = impl_->post_processor.prefix;
  const bool there = ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
  if (!there) ids.insert(ids.begin(), prefix.begin(), prefix.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  text::DecodeStream stream = decode_stream();
  for (const int32_t id : ids)
    if (!skip_special_tokens || !is_special(id)) stream.push(decode_text(id));
  stream.finish();
  return stream.take();
}

int32_t Tokenizer::vocab_size() const { return impl_->id_count; }

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  const int32_t id = impl_->find(token);
  return id == text::kNoToken ? std::nullopt : std::optional(id);
}

std::string_view Tokenizer::token(int32_t id) const {
  const auto it = impl_->added_by_id.find(id);
  return it != impl_->added_by_id.end() ? impl_->added[it->second].content : impl_->model.vocab().token(id);
}

std::string Tokenizer::token_bytes(int32_t id) const {
  const std::string_view content = token(id);
  std::string bytes;
  if (impl_->byte_level_decoder) {
    text::append_bytes_of_token(content, bytes);
    return bytes;
  }
  if (impl_->byte_fallback_decoder && content.size() == 6 && content.starts_with("<0x") && content.ends_with('>'))
    return std::string(1, static_cast<char>(std::stoi(std::string(content.substr(3, 2)), nullptr, 16)));
  constexpr std::string_view kMark = "\xE2\x96\x81";
  for (size_t at = 0; at < content.size();) {
    const bool mark = !is_special(id) && content.substr(at).starts_with(kMark);
    bytes += mark ? ' ' : content[at];
    at += mark ? kMark.size() : 1;
  }
  return bytes;
}

bool Tokenizer::is_special(int32_t id) const {
  const auto it = impl_->added_by_id.find(id);
  return it != impl_->added_by_id.end() && impl_->added[it->second].special;
}

const std::string& Tokenizer::bos_token() const { return impl_->bos; }
const std::string& Tokenizer::eos_token() const { return impl_->eos; }
std::optional<int32_t> Tokenizer::bos_id() const { return id_of(impl_->bos); }
std::optional<int32_t> Tokenizer::eos_id() const { return id_of(impl_->eos); }

const std::vector<std::pair<std::string, std::string>>& Tokenizer::special_tokens() const {
  return impl_->special_names;
}

text::DecodeStream Tokenizer::decode_stream() const { return impl_->decoder.stream(); }

std::string_view Tokenizer::decode_text(int32_t id) const {
  const bool known = impl_->added_by_id.contains(id) || impl_->model.vocab().has(id);
  return known ? token(id) : text::kReplacement;
}

}  // namespace shoal
