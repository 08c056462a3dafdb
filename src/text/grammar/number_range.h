// SPDX-License-Identifier: Apache-2.0
// JSON numbers within bounds, compared digit by digit, hence exactly. They are written without exponent; integers without a point too.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "text/grammar/byte_dfa.h"

namespace shoal::text {

// A decimal number. Invariant: `whole` has no leading zeros (empty for 0), `fraction` no trailing ones; 0 is not negative.
struct Decimal {
  bool negative = false;
  std::string whole, fraction;

  // From a JSON number with or without exponent; nullopt if its digits would be more than 400.
  static std::optional<Decimal> parse(std::string_view text);
  bool is_zero() const { return whole.empty() && fraction.empty(); }
  bool is_integer() const { return fraction.empty(); }
  Decimal negated() const;
  std::string text() const;
  std::strong_ordering operator<=>(const Decimal& other) const;
  bool operator==(const Decimal&) const = default;
};

// Digits before and after the point of a number without bounds.
constexpr int32_t kWholeDigits = 19, kFractionDigits = 20;

struct NumberRange {
  struct Bound {
    Decimal value;
    bool exclusive = false;
  };
  std::optional<Bound> low, high;
  bool integer = false;
  int64_t multiple_of = 1;                 // of integers
  std::optional<int32_t> fraction_digits;  // at most

  bool unbounded() const { return !low && !high && multiple_of == 1 && !fraction_digits; }
};

// May be empty.
ByteDfa number_dfa(const NumberRange& range);

}  // namespace shoal::text
