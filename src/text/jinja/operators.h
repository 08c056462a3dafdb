// SPDX-License-Identifier: Apache-2.0
// Python's operators on template values. A combination that Python refuses throws std::invalid_argument with the reason; the run
// adds the line. Integers are 64 bit and an overflow is refused. Not here: truth and short cuts (`and`, `or`).
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace shoal::text::jinja {

bool equal(const Value& a, const Value& b);
// Numbers, strings and lists; anything else has no order.
bool less(const Value& a, const Value& b);
bool contains(const Value& container, const Value& item);
bool compare(std::string_view op, const Value& a, const Value& b);

// + - * / // % **; `max_size` bounds the bytes of the result.
Value arithmetic(std::string_view op, const Value& a, const Value& b, size_t max_size);
Value negate(const Value& value);

// value[index] of a list, string or dict; undefined if there is no such item.
Value item(const Value& value, const Value& index);
// Python's value[from:to:step] of a list or string; none for an absent bound.
Value slice(const Value& value, const Value& from, const Value& to, const Value& step);
// What a loop sees: items, keys or characters. Undefined is empty.
List elements(const Value& value);

}  // namespace shoal::text::jinja
