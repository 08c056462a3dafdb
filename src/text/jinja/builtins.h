// SPDX-License-Identifier: Apache-2.0
// Filters, tests, methods and global functions of the template language. All of them throw std::invalid_argument for what they do
// not take. Not here: raise_exception and strftime_now, which belong to chat templates (chat_template.cc).
#pragma once

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/jinja/run.h"

namespace shoal::text::jinja {

using Filter = Value (*)(Run&, const Value& input, const Arguments& arguments);
using Test = bool (*)(Run&, const Value& input, const Arguments& arguments);
using FilterTable = std::unordered_map<std::string, Filter>;

// Null if there is none of this name.
Filter find_filter(const std::string& name);
Test find_test(const std::string& name);
// A method of a string, list or dict, bound to it; undefined if it has none of this name.
Value find_method(const Value& object, const std::string& name);
// range, dict, namespace.
std::vector<std::pair<std::string, Value>> global_functions();

// The filters by what they work on.
const FilterTable& text_filters();
const FilterTable& list_filters();

// Argument `index`, or called `name`, with a default, or an error if it is of the wrong kind.
int64_t integer_argument(const Arguments& arguments, size_t index, const char* name, int64_t fallback);
bool bool_argument(const Arguments& arguments, size_t index, const char* name, bool fallback);
std::string string_argument(const Arguments& arguments, size_t index, const char* name, const char* fallback);
// Refuses what is not a string, with the caller's name.
const std::string& text_of_string(const Value& value, const char* who);

// Shared by filters and methods of the same name.
std::string upper(const std::string& text);
std::string lower(const std::string& text);
std::string capitalize(const std::string& text);
std::string title(const std::string& text);        // as str.title()
std::string jinja_title(const std::string& text);  // as the filter
std::string strip(const std::string& text, const Value* characters, bool left, bool right);
std::string replace(Run& run, const std::string& text, const std::string& from, const std::string& to, int64_t count);
std::string join(Run& run, const List& items, const std::string& separator);

}  // namespace shoal::text::jinja
