// SPDX-License-Identifier: Apache-2.0
// Datasets in files: JSON lines of prompts (trtllm-bench's, vLLM's custom and plain ones), and ShareGPT's JSON of conversations.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <random>

#include "apps/bench/dataset.h"
#include "apps/bench/dataset_lines.h"
#include "base/error.h"
#include "base/json_file.h"
#include "base/mmap.h"

namespace shoal::bench {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr size_t kMostLineBytes = size_t{64} << 20;

// ShareGPT's usual bounds, so that runs compare with others'.
constexpr int64_t kLeastTokens = 4;
constexpr int64_t kMostPromptTokens = 1024;
constexpr int64_t kMostSequenceTokens = 2048;

void check_file(const std::string& path) {
  if (fs::is_regular_file(path)) return;
  throw Error(ErrorKind::kInvalid, fmt::format("{} is no file; give a dataset file", printable(path)));
}

// A line, or false at the end; reads no more of a line than it may hold.
bool next_line(std::istream& in, std::string& line) {
  line.clear();
  for (int c = in.get(); c != EOF; c = in.get()) {
    if (c == '\n') return true;
    line += static_cast<char>(c);
    if (line.size() > kMostLineBytes)
      throw Error(ErrorKind::kLimit, fmt::format("a line has more than {} bytes", kMostLineBytes));
  }
  return !line.empty();
}

class LineReader {
 public:
  LineReader(const std::string& path, int64_t count) : path_(path), count_(count) {}

  void read(std::istream& in, const std::function<BenchRequest(const Json&)>& read_line) {
    std::string line;
    while ((count_ == 0 || static_cast<int64_t>(requests_.size()) < count_) && next_line(in, line)) {
      ++number_;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      ++lines_;
      take(line, read_line);
    }
  }

  std::vector<BenchRequest> finish() {
    if (bad_ > shown_.list().size()) shown_.add(fmt::format("and {} more", bad_ - shown_.list().size()));
    shown_.throw_if_any(fmt::format("{}: {} of {} lines cannot be used", path_, bad_, lines_));
    return std::move(requests_);
  }

 private:
  void take(const std::string& line, const std::function<BenchRequest(const Json&)>& read_line) {
    try {
      const Json object = parse_json(line, "JSON");
      if (!object.is_object()) throw Error(ErrorKind::kInvalid, "must be a JSON object");
      requests_.push_back(read_line(object));
    } catch (const Error& error) {
      if (++bad_ <= kShownProblems) shown_.add(fmt::format("line {}: {}", number_, error.what()));
    }
  }

  std::string path_;
  int64_t count_;
  int64_t number_ = 0, lines_ = 0;
  size_t bad_ = 0;
  Problems shown_;
  std::vector<BenchRequest> requests_;
};

// A prompt in any of the forms that line-based datasets have.
class PromptLine {
 public:
  explicit PromptLine(const TextTokens& tokens) : tokens_(tokens) {}

  BenchRequest read(const Json& line) const {
    BenchRequest request;
    for (const char* key : {"input_ids", "logits", "prompt_token_ids"}) {
      if (!line.contains(key) || line[key].is_null() || !request.ids.empty()) continue;
      request.ids = token_ids(line[key]);
    }
    if (request.ids.empty()) prompt(line, request);
    request.output_tokens = kDefaultOutputTokens;
    for (const char* key : {"output_tokens", "max_tokens", "output_len"}) {
      if (line.contains(key)) request.output_tokens = whole_number(line, key, 1);
    }
    return request;
  }

 private:
  void prompt(const Json& line, BenchRequest& request) const {
    if (line.contains("messages") && line["messages"].is_array()) {
      request.messages = line["messages"];
      if (tokens_.encode_chat) request.ids = tokens_.encode_chat(request.messages);
      return;
    }
    const auto found = line.find("prompt");
    if (found != line.end() && found->is_array()) {
      request.ids = token_ids(*found);
    } else if (found != line.end() && found->is_string()) {
      request.text = found->get<std::string>();
      if (tokens_.encode) request.ids = tokens_.encode(request.text);
    } else {
      throw Error(ErrorKind::kInvalid, "must have \"prompt\", \"input_ids\" (or \"logits\") or \"messages\"");
    }
    if (request.ids.empty() && (tokens_.encode || request.text.empty()))
      throw Error(ErrorKind::kInvalid, "the prompt is empty");
  }

  const TextTokens& tokens_;
};

struct Conversation {
  std::string prompt, answer;
  int turns = 0;
};

// The first two turns of each conversation, without a document of the whole file (ShareGPT's has hundreds of megabytes).
class ShareGptReader : public JsonEvents {
 public:
  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_unsigned(number_unsigned_t) override { return other(); }
  bool number_float(number_float_t, const string_t&) override { return other(); }
  bool string(string_t& value) override {
    if (depth_ == 4 && in_turns_ && key_ == "value") {
      Conversation& talk = talks_.back();
      if (talk.turns == 0) talk.prompt = value;
      if (talk.turns == 1) talk.answer = value;
    }
    return other();
  }
  bool key(string_t& name) override {
    if (depth_ == 2) in_turns_ = name == "conversations" || name == "conversation";
    if (depth_ == 2 || depth_ == 4) key_ = name;
    return true;
  }
  bool start_object(size_t) override {
    if (++depth_ == 1) fail("must be a list of conversations");
    if (depth_ == 2) talks_.emplace_back();
    return check_depth();
  }
  bool end_object() override {
    if (depth_ == 4 && in_turns_) ++talks_.back().turns;
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    if (++depth_ == 2) fail("must be a list of conversations");
    return check_depth();
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  std::vector<Conversation> take() { return std::move(talks_); }

 private:
  static constexpr int kMostDepth = 64;
  bool other() {
    if (depth_ < 2) fail("must be a list of objects with \"conversations\"");
    return true;
  }
  bool check_depth() {
    if (depth_ == 1 && !talks_.empty()) fail("must be one list");
    if (depth_ > kMostDepth) fail(fmt::format("nested deeper than {}", kMostDepth));
    return true;
  }

  int depth_ = 0;
  bool in_turns_ = false;
  std::string key_;
  std::vector<Conversation> talks_;
};

// The request of a conversation, or false where its lengths are not used.
bool use_conversation(const Conversation& talk, const TextTokens& tokens, int64_t output, BenchRequest& request) {
  if (talk.turns < 2 || talk.prompt.empty()) return false;
  request.text = talk.prompt;
  request.ids = tokens.encode(talk.prompt);
  const auto prompt_tokens = static_cast<int64_t>(request.ids.size());
  request.output_tokens = output > 0 ? output : static_cast<int64_t>(tokens.encode(talk.answer).size());
  return prompt_tokens >= kLeastTokens && (output > 0 || request.output_tokens >= kLeastTokens) &&
         prompt_tokens <= kMostPromptTokens && prompt_tokens + request.output_tokens <= kMostSequenceTokens;
}

}  // namespace

int64_t whole_number(const Json& object, const char* key, int64_t least) {
  const auto found = object.find(key);
  if (found == object.end()) throw Error(ErrorKind::kInvalid, fmt::format("has no \"{}\"", key));
  const bool whole = found->is_number_integer() && *found >= least && *found <= kMostTokens;
  if (!whole)
    throw Error(
        ErrorKind::kInvalid,
        fmt::format("\"{}\" is {}, must be a whole number from {} to {}", key,
                    printable(found->dump(-1, ' ', false, Json::error_handler_t::replace), 40), least, kMostTokens));
  return found->get<int64_t>();
}

std::vector<int32_t> token_ids(const Json& list) {
  if (!list.is_array() || list.empty())
    throw Error(ErrorKind::kInvalid, "token ids must be a list of whole numbers, and not empty");
  std::vector<int32_t> ids;
  for (const Json& id : list) {
    const bool fits = id.is_number_integer() && id >= 0 && id <= std::numeric_limits<int32_t>::max();
    if (!fits)
      throw Error(ErrorKind::kInvalid,
                  printable(id.dump(-1, ' ', false, Json::error_handler_t::replace), 40) + " is no token id");
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

std::vector<BenchRequest> read_lines(const std::string& path, int64_t count,
                                     const std::function<BenchRequest(const Json&)>& read) {
  LineReader reader(path, count);
  if (path == "-") {
    reader.read(std::cin, read);
    return reader.finish();
  }
  check_file(path);
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error(ErrorKind::kInvalid, fmt::format("{} cannot be read; check its permissions", printable(path)));
  reader.read(in, read);
  return reader.finish();
}

BenchDataset jsonl_dataset(const DatasetOptions& options, const TextTokens& tokens) {
  const PromptLine prompts(tokens);
  BenchDataset data;
  data.requests = read_lines(options.path, options.count, [&](const Json& line) { return prompts.read(line); });
  return data;
}

BenchDataset sharegpt_dataset(const DatasetOptions& options, const TextTokens& tokens) {
  if (!tokens.encode)
    throw Error(ErrorKind::kInvalid, "the dataset sharegpt needs a tokenizer to count tokens; give a model directory");
  check_file(options.path);
  const MappedFile file(options.path);
  ShareGptReader reader;
  reader.run({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, options.path);
  std::vector<Conversation> talks = reader.take();
  if (!options.keep_order) {
    std::mt19937_64 random(options.seed);
    for (size_t i = talks.size(); i > 1; --i) std::swap(talks[i - 1], talks[random() % i]);
  }
  const int64_t count = options.count > 0 ? options.count : kDefaultRequests;
  BenchDataset data;
  for (const Conversation& talk : talks) {
    BenchRequest request;
    if (static_cast<int64_t>(data.requests.size()) == count) break;
    if (use_conversation(talk, tokens, options.output_tokens, request)) data.requests.push_back(std::move(request));
  }
  return data;
}

}  // namespace shoal::bench
