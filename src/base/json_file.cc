// SPDX-License-Identifier: Apache-2.0
#include "base/json_file.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "base/error.h"

namespace shoal {
namespace {

using nlohmann::json;

// Reads a text byte by byte and tells its owner how far it is.
struct CountingIterator {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* at;
  size_t* position;

  const char& operator*() const { return *at; }
  CountingIterator& operator++() {
    ++at;
    ++*position;
    return *this;
  }
  CountingIterator operator++(int) {
    const CountingIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const CountingIterator& a, const CountingIterator& b) { return a.at == b.at; }
};

// The library's message without its prefix: "[json.exception.x.1] parse error at line 1, column 2: what".
std::string without_prefix(std::string_view message) {
  if (const size_t end = message.find("] "); message.starts_with('[') && end != message.npos)
    message.remove_prefix(end + 2);
  const size_t column = message.find(": ");
  if (message.starts_with("parse error at ") && column != message.npos) message.remove_prefix(column + 2);
  return printable(message, 300);
}

// Builds a document, one level of `open_` per array or object being read.
class DocumentBuilder final : public JsonEvents {
 public:
  explicit DocumentBuilder(const JsonLimits& limits) : limits_(limits) {}

  json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(json::number_integer_t value) override { return put(value); }
  bool number_unsigned(json::number_unsigned_t value) override { return put(value); }
  bool number_float(json::number_float_t value, const std::string&) override { return put(value); }
  bool string(std::string& value) override { return put(std::move(value)); }
  bool start_object(size_t) override { return open(json::object()); }
  bool start_array(size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    auto& members = open_.back()->get_ref<json::object_t&>();
    const auto [place, is_new] = members.try_emplace(name, nullptr);
    if (!is_new && limits_.unique_keys) fail("key \"" + printable(name) + "\" is given twice");
    member_ = &place->second;
    return true;
  }

 private:
  json* slot() {
    if (open_.empty()) return &root_;
    if (open_.back()->is_object()) return member_;
    open_.back()->push_back(nullptr);
    return &open_.back()->back();
  }
  bool put(json value) {
    *slot() = std::move(value);
    return true;
  }
  bool open(json empty) {
    if (static_cast<int>(open_.size()) >= limits_.depth)
      fail("nested deeper than " + std::to_string(limits_.depth) + " levels");
    json* place = slot();
    *place = std::move(empty);
    open_.push_back(place);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  JsonLimits limits_;
  json root_;
  std::vector<json*> open_;  // stable: a level is complete before its parent grows again
  json* member_ = nullptr;
};

void check_size(int64_t bytes, const std::string& name, const JsonLimits& limits) {
  if (bytes <= limits.bytes) return;
  throw Error(ErrorKind::kLimit, name + ": " + std::to_string(bytes) + " bytes of JSON, at most " +
                                     std::to_string(limits.bytes) + " are read");
}

// Length of the UTF-8 character at the start of `text`, 0 if there is none.
size_t utf8_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 && lead < 0xf5   ? 4
                        : lead >= 0xe0 && lead < 0xf0 ? 3
                        : lead >= 0xc2 && lead < 0xe0 ? 2
                                                      : 0;
  if (length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  return length;
}

}  // namespace

std::string printable(std::string_view text, size_t max_bytes) {
  std::string result;
  while (!text.empty() && result.size() < max_bytes) {
    const size_t length = utf8_length(text);
    const bool control = length == 1 && (static_cast<unsigned char>(text[0]) < 0x20 || text[0] == 0x7f);
    result += length == 0 || control ? std::string_view("?") : text.substr(0, length);
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return text.empty() ? result : result + "...";
}

void JsonEvents::run(std::string_view text, const std::string& name) {
  text_ = text;
  name_ = name;
  position_ = 0;
  // The library takes a zero byte for the end of the text and would not look at what follows.
  if (const size_t zero = text.find('\0'); zero != text.npos) {
    position_ = zero + 1;
    fail("zero byte in JSON text");
  }
  nlohmann::json::sax_parse(CountingIterator{text.data(), &position_},
                            CountingIterator{text.data() + text.size(), &position_}, this);
}

bool JsonEvents::parse_error(size_t, const std::string&, const nlohmann::json::exception& error) {
  fail(without_prefix(error.what()));
}

void JsonEvents::fail(const std::string& what) const { throw Error(ErrorKind::kInvalid, place() + ": " + what); }

std::string JsonEvents::place() const {
  // The last byte read may be the line's end that closed the token at fault.
  const std::string_view before = text_.substr(0, position_ == 0 ? 0 : position_ - 1);
  return name_ + ":" + std::to_string(1 + std::count(before.begin(), before.end(), '\n'));
}

nlohmann::json parse_json(std::string_view text, const std::string& name, const JsonLimits& limits) {
  check_size(static_cast<int64_t>(text.size()), name, limits);
  DocumentBuilder builder(limits);
  builder.run(text, name);
  return builder.take();
}

std::string read_text_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  if (!file)
    throw Error(ErrorKind::kInvalid, path.string() + ": cannot be read; check that the file is complete and readable");
  return std::move(content).str();
}

nlohmann::json read_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
  std::error_code problem;
  const auto size = std::filesystem::file_size(path, problem);  // fails for a directory too
  if (problem) throw Error(ErrorKind::kInvalid, path.string() + ": cannot read: " + problem.message());
  check_size(static_cast<int64_t>(std::min<uintmax_t>(size, INT64_MAX)), path.string(), limits);
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorKind::kInvalid, path.string() + ": cannot open");
  std::string text(size, '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  text.resize(static_cast<size_t>(file.gcount()));
  return parse_json(text, path.string(), limits);
}

}  // namespace shoal
