// SPDX-License-Identifier: Apache-2.0
// The "decoder" of tokenizer.json as a stream: tokens go in one by one, text comes out as soon as nothing that may follow can
// change it. Decoding at once is the same stream, so both agree by construction.
// Known steps: ByteLevel, ByteFallback, Replace, Strip, Fuse, Metaspace, Sequence; others are refused by name. Without a decoder
// tokens are joined by spaces, as the Hugging Face library does.
// Invariant: what comes out is valid UTF-8, whole characters only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/json_read.h"

namespace shoal::text {

// One step of a running decoder. It hands tokens to the next step; `out` is called zero or more times per token.
class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  virtual void push(std::string_view token) = 0;
  virtual void finish() = 0;
};

class DecodeStream {
 public:
  void push(std::string_view token) { first_->push(token); }
  void finish() { first_->finish(); }
  // What has come out since the last call.
  std::string take() { return std::exchange(*out_, {}); }

 private:
  friend class Decoder;
  std::unique_ptr<std::string> out_ = std::make_unique<std::string>();
  std::vector<std::unique_ptr<DecodeStep>> steps_;
  DecodeStep* first_ = nullptr;
};

class Decoder {
 public:
  Decoder();  // joins tokens by spaces
  explicit Decoder(Json json);

  DecodeStream stream() const;

 private:
  enum class Kind { kByteLevel, kByteFallback, kReplace, kStrip, kFuse, kMetaspace, kJoin };
  struct Step {
    Kind kind;
    std::function<std::string(std::string)> replace;
    std::string character;  // Strip's content, Metaspace's replacement
    int64_t start = 0, stop = 0;
    bool drop_first_mark = false;
  };
  void add(Json json);
  static std::unique_ptr<DecodeStep> make(const Step& step, bool fused, DecodeStep& next);

  std::vector<Step> steps_;
};

}  // namespace shoal::text
