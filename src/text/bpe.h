// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding (Sennrich 2016) of one pre-tokenised word, with the results of the Hugging Face tokenizers library: lowest
// merge rank first, leftmost among equals; byte fallback, fused unknowns and `ignore_merges` included.
// Cost: O(n log n) for a word of n characters. Immutable after construction, usable from many threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_read.h"
#include "text/vocab.h"

namespace shoal::text {

// (left id, right id) -> rank and id of the merged token; open addressing.
class MergeTable {
 public:
  struct Merge {
    int32_t rank = 0;
    int32_t id = kNoToken;
  };
  void reserve(size_t merges);
  void put(int32_t left, int32_t right, Merge merge);  // the last of equal pairs wins; never more than was reserved
  const Merge* find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  size_t slot_of(uint64_t key) const;
  std::vector<Slot> slots_;
};

class Bpe {
 public:
  // From the "model" object of tokenizer.json.
  explicit Bpe(Json model);

  const Vocab& vocab() const { return vocab_; }
  // Appends the ids of `word` (valid UTF-8) to `out`.
  void encode(std::string_view word, std::vector<int32_t>& out) const;

 private:
  struct Symbol {
    int32_t id;
    int32_t previous, next;  // -1: none
    bool alive;
  };
  void read_vocab(Json model);
  void read_merges(Json model);
  void add_merge(std::string_view left, std::string_view right, int32_t rank);
  int32_t find_character(std::string_view word, size_t begin, size_t end) const;
  bool append_bytes(std::string_view character, std::vector<int32_t>& out) const;
  void initial_ids(std::string_view word, std::vector<int32_t>& out) const;
  void merge_all(std::vector<Symbol>& symbols) const;

  Vocab vocab_;
  MergeTable merges_;
  std::vector<int32_t> small_characters_;  // ids of the characters below U+0800, all that a byte-level model needs
  std::vector<int32_t> byte_ids_;          // ids of <0x00> .. <0xFF>
  std::string prefix_, suffix_;            // continuing_subword_prefix, end_of_word_suffix
  int32_t unknown_ = kNoToken;
  bool fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false;
};

}  // namespace shoal::text
