// SPDX-License-Identifier: Apache-2.0
// Values of the template language, with Python's meaning: undefined, none, bool, int (64 bit), float, string, list, dict, and things
// that can be called. Strings, lists and dicts are shared and immutable, so copies are cheap and cycles impossible; the one mutable
// kind, `namespace()`, is owned by the run and held here by index.
// Not here: printing (format.h), operators (operators.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace shoal::text::jinja {

class Value;
class Run;

using List = std::vector<Value>;

// In order of insertion. String keys are found by hash, the rare others one by one.
class Dict {
 public:
  const Value* find(const Value& key) const;
  void set(const Value& key, Value value);
  const std::vector<std::pair<Value, Value>>& items() const { return items_; }
  size_t size() const;

 private:
  size_t index_of(const Value& key) const;  // size() if absent
  std::vector<std::pair<Value, Value>> items_;
  std::unordered_map<std::string, size_t> by_text_;  // string keys only
};

struct Arguments {
  List positional;
  std::vector<std::pair<std::string, Value>> named;

  // The positional argument `index`, else the one called `name`, else null.
  const Value* find(size_t index, std::string_view name) const;
};

struct Undefined {
  std::string name;  // for the error text
};
struct None {};
struct NamespaceRef {
  size_t index;
};
using Callable = std::function<Value(Run&, const Arguments&)>;

class Value {
 public:
  Value() : data_(None{}) {}
  Value(bool value) : data_(value) {}                          // NOLINT: a value is what it is made from
  Value(int64_t value) : data_(value) {}                       // NOLINT
  Value(int value) : data_(int64_t{value}) {}                  // NOLINT
  Value(size_t value) : data_(static_cast<int64_t>(value)) {}  // NOLINT
  Value(double value) : data_(value) {}                        // NOLINT
  Value(std::string value) : data_(std::make_shared<const std::string>(std::move(value))) {}  // NOLINT
  Value(std::string_view value) : Value(std::string(value)) {}                                // NOLINT
  Value(const char* value) : Value(std::string(value)) {}                                     // NOLINT
  Value(List value);                                                                          // NOLINT
  Value(Dict value);                                                                          // NOLINT
  Value(NamespaceRef value) : data_(value) {}                                                 // NOLINT
  static Value undefined(std::string name = {}) {
    return Value(Data(std::make_shared<const Undefined>(Undefined{std::move(name)})));
  }
  // `held`: a value that the function keeps.
  static Value callable(Callable call, const Value& held = {});
  static Value from_json(const nlohmann::ordered_json& json, int depth = 0);

  bool is_undefined() const { return std::holds_alternative<std::shared_ptr<const Undefined>>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_string() const { return std::holds_alternative<std::shared_ptr<const std::string>>(data_); }
  bool is_list() const { return std::holds_alternative<std::shared_ptr<const List>>(data_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<const Dict>>(data_); }
  bool is_namespace() const { return std::holds_alternative<NamespaceRef>(data_); }
  bool is_callable() const { return std::holds_alternative<std::shared_ptr<const Callable>>(data_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_integral() const { return is_bool() || is_int(); }

  // Each is for values of its kind only.
  int64_t integer() const { return is_bool() ? std::get<bool>(data_) : std::get<int64_t>(data_); }
  double number() const { return is_float() ? std::get<double>(data_) : static_cast<double>(integer()); }
  const std::string& string() const { return *std::get<std::shared_ptr<const std::string>>(data_); }
  const List& list() const { return *std::get<std::shared_ptr<const List>>(data_); }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  size_t namespace_index() const { return std::get<NamespaceRef>(data_).index; }
  const Callable& call() const { return *std::get<std::shared_ptr<const Callable>>(data_); }
  const std::string& undefined_name() const { return std::get<std::shared_ptr<const Undefined>>(data_)->name; }

  // How deep lists and dicts are nested in this one; making one beyond kMaxValueDepth throws std::length_error.
  int depth() const { return depth_; }
  // Python's truth.
  bool truthy() const;
  // For error texts: "str", "int", "list", …
  const char* type_name() const;

 private:
  using Data = std::variant<None, bool, int64_t, double, NamespaceRef, std::shared_ptr<const std::string>,
                            std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<const Callable>,
                            std::shared_ptr<const Undefined>>;
  explicit Value(Data data) : data_(std::move(data)) {}
  void nest(int inner);
  Data data_;
  int depth_ = 0;
};

// Here, where Value is complete.
inline size_t Dict::size() const { return items_.size(); }

// How deep lists and dicts may be nested; what walks them recursively relies on it.
inline constexpr int kMaxValueDepth = 200;

}  // namespace shoal::text::jinja
