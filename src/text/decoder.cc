// SPDX-License-Identifier: Apache-2.0
#include "text/decoder.h"

#include <algorithm>
#include <utility>

#include "text/byte_level.h"
#include "text/normalizer.h"
#include "text/utf8.h"

namespace shoal::text {
namespace {

class Sink : public DecodeStep {
 public:
  explicit Sink(std::string& out) : out_(out) {}
  void push(std::string_view token) override { out_ += token; }
  void finish() override {}

 private:
  std::string& out_;
};

class StepTo : public DecodeStep {
 public:
  explicit StepTo(DecodeStep& next) : next_(next) {}
  void finish() override { next_.finish(); }

 protected:
  DecodeStep& next_;
};

class JoinStep : public StepTo {
 public:
  using StepTo::StepTo;
  void push(std::string_view token) override {
    if (!first_) next_.push(" ");
    first_ = false;
    next_.push(token);
  }

 private:
  bool first_ = true;
};

// Token characters back to bytes, and the bytes of all tokens together to text.
class ByteLevelStep : public StepTo {
 public:
  using StepTo::StepTo;
  void push(std::string_view token) override {
    bytes_.clear();
    text_.clear();
    append_bytes_of_token(token, bytes_);
    stream_.push(bytes_, text_);
    if (!text_.empty()) next_.push(text_);
  }
  void finish() override {
    text_.clear();
    stream_.finish(text_);
    if (!text_.empty()) next_.push(text_);
    next_.finish();
  }

 private:
  Utf8Stream stream_;
  std::string bytes_, text_;
};

// A run of <0xNN> tokens is one string if its bytes are UTF-8, else one U+FFFD for each; so a run is kept until it ends.
class ByteFallbackStep : public StepTo {
 public:
  using StepTo::StepTo;
  void push(std::string_view token) override {
    const int byte = byte_of(token);
    if (byte >= 0) {
      run_ += static_cast<char>(byte);
      return;
    }
    flush();
    next_.push(token);
  }
  void finish() override {
    flush();
    next_.finish();
  }

 private:
  static int byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
    int value = 0;
    for (const char c : token.substr(3, 2)) {
      const bool digit = c >= '0' && c <= '9', upper = c >= 'A' && c <= 'F', lower = c >= 'a' && c <= 'f';
      if (!digit && !upper && !lower) return -1;
      value = value * 16 + (digit ? c - '0' : upper ? c - 'A' + 10 : c - 'a' + 10);
    }
    return value;
  }
  void flush() {
    if (run_.empty()) return;
    if (is_valid_utf8(run_)) {
      next_.push(run_);
    } else {
      for (size_t i = 0; i < run_.size(); ++i) next_.push(kReplacement);
    }
    run_.clear();
  }

  std::string run_;
};

// A function of each token by itself.
class MapStep : public StepTo {
 public:
  MapStep(DecodeStep& next, std::function<std::string(std::string)> map) : StepTo(next), map_(std::move(map)) {}
  void push(std::string_view token) override { next_.push(map_(std::string(token))); }

 private:
  std::function<std::string(std::string)> map_;
};

// After Fuse there is one token, the whole text; a step that is not known to work on a stream waits for all of it.
class GatherStep : public StepTo {
 public:
  using StepTo::StepTo;
  void push(std::string_view token) override { text_ += token; }
  void finish() override {
    next_.push(text_);
    next_.finish();
  }

 private:
  std::string text_;
};

// Strip of the fused text's beginning, which needs no waiting.
class StripStartStep : public StepTo {
 public:
  StripStartStep(DecodeStep& next, std::string character, int64_t count)
      : StepTo(next), character_(std::move(character)), left_(count) {}
  void push(std::string_view token) override {
    while (left_ > 0 && token.starts_with(character_)) {
      token.remove_prefix(character_.size());
      --left_;
    }
    if (token.empty()) return;
    left_ = 0;
    next_.push(token);
  }

 private:
  std::string character_;
  int64_t left_;
};

class MetaspaceStep : public StepTo {
 public:
  MetaspaceStep(DecodeStep& next, std::string mark, bool drop_first)
      : StepTo(next), mark_(std::move(mark)), drop_(drop_first) {}
  void push(std::string_view token) override {
    std::string text;
    for (size_t at = 0; at < token.size();) {
      if (token.substr(at).starts_with(mark_)) {
        if (!drop_) text += ' ';
        at += mark_.size();
      } else {
        text += token[at++];
      }
    }
    drop_ = false;
    next_.push(text);
  }

 private:
  std::string mark_;
  bool drop_;
};

// Up to `start` and `stop` copies of `character` off the two ends.
std::string strip_ends(const std::string& text, const std::string& character, int64_t start, int64_t stop) {
  std::string_view rest = text;
  for (; start > 0 && rest.starts_with(character); --start) rest.remove_prefix(character.size());
  for (; stop > 0 && rest.ends_with(character); --stop) rest.remove_suffix(character.size());
  return std::string(rest);
}

}  // namespace

Decoder::Decoder() { steps_.push_back({.kind = Kind::kJoin, .replace = {}, .character = {}}); }

Decoder::Decoder(Json json) { add(json); }

void Decoder::add(Json json) {
  const std::string_view type = get_string(json, "type");
  Step step{.kind = Kind::kFuse, .replace = {}, .character = {}};
  if (type == "Sequence") {
    for (const Json inner : get_array(json, "decoders")) add(inner);
    return;
  }
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    step.replace = make_replace(json);
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    step.character = get_string(json, "content");
    step.start = get_int(json, "start", 0);
    step.stop = get_int(json, "stop", 0);
    if (step.character.empty()) wrong_json("decoder Strip content", "must be one character");
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    step.character = get_string(json, "replacement", "\xE2\x96\x81");
    const bool add_prefix = get_bool(json, "add_prefix_space", true);
    step.drop_first_mark = get_string(json, "prepend_scheme", add_prefix ? "always" : "never") != "never";
    if (step.character.empty()) wrong_json("decoder Metaspace replacement", "must be one character");
  } else if (type != "Fuse") {
    throw Error(ErrorKind::kUnsupported, "tokenizer.json: decoder type '" + std::string(type) + "' is not supported");
  }
  steps_.push_back(std::move(step));
}

std::unique_ptr<DecodeStep> Decoder::make(const Step& step, bool fused, DecodeStep& next) {
  switch (step.kind) {
    case Kind::kJoin:
      return std::make_unique<JoinStep>(next);
    case Kind::kByteLevel:
      return std::make_unique<ByteLevelStep>(next);
    case Kind::kByteFallback:
      return std::make_unique<ByteFallbackStep>(next);
    case Kind::kMetaspace:
      return std::make_unique<MetaspaceStep>(next, step.character, step.drop_first_mark);
    case Kind::kReplace:
      return std::make_unique<MapStep>(next, step.replace);
    case Kind::kStrip:
      if (fused && step.stop == 0) return std::make_unique<StripStartStep>(next, step.character, step.start);
      return std::make_unique<MapStep>(
          next, [step](const std::string& text) { return strip_ends(text, step.character, step.start, step.stop); });
    case Kind::kFuse:
      break;
  }
  return nullptr;
}

DecodeStream Decoder::stream() const {
  DecodeStream stream;
  stream.steps_.push_back(std::make_unique<Sink>(*stream.out_));
  // From the last step to the first; a step behind a Fuse (or ByteLevel, which fuses too) sees one token.
  const auto is_fuse = [](const Step& step) { return step.kind == Kind::kFuse || step.kind == Kind::kByteLevel; };
  const auto first_fuse = std::find_if(steps_.begin(), steps_.end(), is_fuse);
  for (auto step = steps_.end(); step != steps_.begin();) {
    --step;
    const bool fused = first_fuse < step;
    std::unique_ptr<DecodeStep> made = make(*step, fused, *stream.steps_.back());
    if (!made) continue;
    stream.steps_.push_back(std::move(made));
    const bool streams = step->kind == Kind::kStrip && step->stop == 0;
    if (fused && !streams) stream.steps_.push_back(std::make_unique<GatherStep>(*stream.steps_.back()));
  }
  stream.first_ = stream.steps_.back().get();
  return stream;
}

}  // namespace shoal::text
