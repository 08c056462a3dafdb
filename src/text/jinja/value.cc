// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/value.h"

#include <algorithm>
#include <stdexcept>

#include "base/error.h"
#include "text/jinja/operators.h"

namespace shoal::text::jinja {

size_t Dict::index_of(const Value& key) const {
  if (key.is_string()) {
    const auto it = by_text_.find(key.string());
    return it == by_text_.end() ? items_.size() : it->second;
  }
  for (size_t i = 0; i < items_.size(); ++i)
    if (!items_[i].first.is_string() && equal(items_[i].first, key)) return i;
  return items_.size();
}

const Value* Dict::find(const Value& key) const {
  const size_t index = index_of(key);
  return index < items_.size() ? &items_[index].second : nullptr;
}

void Dict::set(const Value& key, Value value) {
  const size_t index = index_of(key);
  if (index < items_.size()) {
    items_[index].second = std::move(value);
    return;
  }
  if (key.is_string()) by_text_.emplace(key.string(), index);
  items_.emplace_back(key, std::move(value));
}

const Value* Arguments::find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [own, value] : named)
    if (own == name) return &value;
  return nullptr;
}

Value::Value(List value) {
  for (const Value& item : value) nest(item.depth_);
  nest(0);
  data_ = std::make_shared<const List>(std::move(value));
}

Value::Value(Dict value) {
  for (const auto& [key, item] : value.items()) nest(item.depth_);
  nest(0);
  data_ = std::make_shared<const Dict>(std::move(value));
}

Value Value::callable(Callable call, const Value& held) {
  Value value(Data(std::make_shared<const Callable>(std::move(call))));
  value.nest(held.depth_);
  return value;
}

void Value::nest(int inner) {
  depth_ = std::max(depth_, inner + 1);
  if (depth_ > kMaxValueDepth)
    throw std::length_error("a value is nested deeper than " + std::to_string(kMaxValueDepth) + " levels");
}

Value Value::from_json(const nlohmann::ordered_json& json, int depth) {
  if (depth >= kMaxValueDepth)
    throw Error(ErrorKind::kLimit,
                "chat template: input nested deeper than " + std::to_string(kMaxValueDepth) + " levels");
  if (json.is_null() || json.is_discarded()) return {};
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_unsigned() && json.get<uint64_t>() > INT64_MAX) return json.get<double>();
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_number_float()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  if (json.is_array()) {
    List list;
    for (const auto& item : json) list.push_back(from_json(item, depth + 1));
    return list;
  }
  Dict dict;
  for (const auto& [key, value] : json.items()) dict.set(key, from_json(value, depth + 1));
  return dict;
}

bool Value::truthy() const {
  if (is_none() || is_undefined()) return false;
  if (is_number()) return is_float() ? number() != 0 : integer() != 0;
  if (is_string()) return !string().empty();
  if (is_list()) return !list().empty();
  if (is_dict()) return dict().size() > 0;
  return true;
}

const char* Value::type_name() const {
  if (is_undefined()) return "undefined";
  if (is_none()) return "none";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return "str";
  if (is_list()) return "list";
  if (is_dict()) return "dict";
  return is_namespace() ? "namespace" : "callable";
}

}  // namespace shoal::text::jinja
