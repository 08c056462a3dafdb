// SPDX-License-Identifier: Apache-2.0
#include "base/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"

namespace shoal {
namespace {

[[noreturn]] void fail_at(const std::string& name, int line, const std::string& what) {
  throw Error(ErrorKind::kInvalid, name + ":" + std::to_string(line) + ": " + what);
}

// yaml-cpp's marks begin at 0, and are -1 where it has none.
int line_of(const YAML::Mark& mark) { return std::max(mark.line, 0) + 1; }

// Builds the tree from events rather than from yaml-cpp's own document, which drops keys given twice and expands aliases.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string name, int depth) : name_(std::move(name)), depth_(depth) {}

  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    if (expects_key()) fail_at(name_, line_of(mark), "a key is missing before ':'");
    add({.kind = YamlNode::Kind::kNull, .line = line_of(mark), .text = {}, .items = {}, .entries = {}});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail_at(name_, line_of(mark), "aliases (*name) are not supported; write the value itself");
  }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t, const std::string& value) override {
    if (expects_key()) {
      open_.back().key = YamlEntry{value, line_of(mark), {}};
    } else {
      add({.kind = YamlNode::Kind::kScalar, .line = line_of(mark), .text = value, .items = {}, .entries = {}});
    }
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(mark, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(mark, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  // A list or map whose end has not come yet, and the key whose value comes next.
  struct Open {
    YamlNode node;
    std::optional<YamlEntry> key;
  };

  bool expects_key() const {
    return !open_.empty() && open_.back().node.kind == YamlNode::Kind::kMap && !open_.back().key;
  }
  void open(const YAML::Mark& mark, YamlNode::Kind kind) {
    if (expects_key()) fail_at(name_, line_of(mark), "a key must be a word, not a list or map");
    if (static_cast<int>(open_.size()) >= depth_) {
      fail_at(name_, line_of(mark), "nested deeper than " + std::to_string(depth_) + " levels");
    }
    open_.push_back({{.kind = kind, .line = line_of(mark), .text = {}, .items = {}, .entries = {}}, {}});
  }
  void close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }
  void add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
      return;
    }
    parent.key->value = std::move(node);
    parent.node.entries.push_back(std::move(*parent.key));
    parent.key.reset();
  }

  std::string name_;
  int depth_;
  YamlNode root_;
  std::vector<Open> open_;
};

// What yaml-cpp would not take gracefully is refused before it sees it.
void check_text(std::string_view text, const std::string& name, const YamlLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.bytes) {
    throw Error(ErrorKind::kLimit, name + ": larger than " + std::to_string(limits.bytes) + " bytes");
  }
  const size_t zero = text.find('\0');
  if (zero == std::string_view::npos) return;
  const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(zero), '\n') + 1;
  fail_at(name, static_cast<int>(line), "is not a text file (it has a zero byte)");
}

}  // namespace

YamlNode parse_yaml(std::string_view text, const std::string& name, const YamlLimits& limits) {
  check_text(text, name, limits);
  TreeBuilder builder(name, limits.depth);
  TreeBuilder second(name, limits.depth);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    if (parser.HandleNextDocument(second))
      throw Error(ErrorKind::kInvalid, name + ": has more than one document (---)");
  } catch (const YAML::Exception& error) {
    fail_at(name, line_of(error.mark), "not valid YAML: " + printable(error.msg));
  }
  return builder.take();
}

YamlNode read_yaml_file(const std::filesystem::path& path, const YamlLimits& limits) {
  const std::string name = path.string();
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    throw Error(ErrorKind::kInvalid, name + ": is a directory, not a file");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorKind::kInvalid, name + ": cannot be opened (" + std::strerror(errno) + ")");
  // One byte more than allowed, so that endless files end too.
  std::string text(static_cast<size_t>(limits.bytes) + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) throw Error(ErrorKind::kInvalid, name + ": cannot be read");
  text.resize(static_cast<size_t>(file.gcount()));
  return parse_yaml(text, name, limits);
}

}  // namespace shoal
