// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/number_range.h"

#include <algorithm>
#include <charconv>

namespace shoal::text {
namespace {

constexpr int32_t kMaxDigits = 400;  // of a bound

std::strong_ordering compare_magnitudes(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() <=> b.whole.size();
  const int whole = a.whole.compare(b.whole);
  return (whole != 0 ? whole : a.fraction.compare(b.fraction)) <=> 0;
}

// How the digits read so far compare with those of a bound. Whole parts of different lengths are told apart by these.
struct Comparison {
  int8_t digits = 0;   // -1, 0, 1: of the whole digits read, as far as the bound's go, with as many of it
  int8_t settled = 0;  // -1, 1: less, greater, once the whole part has ended; 0: equal so far
  auto operator<=>(const Comparison&) const = default;  // NOLINT(modernize-use-nullptr): its own 0
};

enum class Part : uint8_t { kStart, kMinus, kZero, kWhole, kPoint, kFraction };

struct State {
  Part part = Part::kStart;
  bool negative = false;
  int16_t whole_digits = 0, fraction_digits = 0;
  Comparison low, high;
  int64_t remainder = 0;
  auto operator<=>(const State&) const = default;  // NOLINT(modernize-use-nullptr): its own 0
};

class Scanner {
 public:
  explicit Scanner(const NumberRange& range) : range_(range) {
    for (const auto* bound : {&range.low, &range.high}) {
      if (!*bound) continue;
      max_whole_ = std::max(max_whole_, static_cast<int32_t>((*bound)->value.whole.size()));
      max_fraction_ = std::max(max_fraction_, static_cast<int32_t>((*bound)->value.fraction.size()) + 2);
    }
    if (range.fraction_digits) max_fraction_ = *range.fraction_digits;
    if (range.integer) max_fraction_ = 0;
  }

  std::optional<State> step(const State& state, uint8_t byte) const {
    State next = state;
    if (byte == '-') {
      if (state.part != Part::kStart) return std::nullopt;
      next.part = Part::kMinus;
      next.negative = true;
      return next;
    }
    if (byte == '.') {
      if ((state.part != Part::kZero && state.part != Part::kWhole) || max_fraction_ == 0) return std::nullopt;
      next = with_whole_ended(state);
      next.part = Part::kPoint;
      return next;
    }
    if (byte < '0' || byte > '9') return std::nullopt;
    return digit(next, static_cast<char>(byte));
  }

  bool accepts(const State& state) const {
    if (state.part == Part::kStart || state.part == Part::kMinus || state.part == Part::kPoint) return false;
    if (range_.integer && state.part == Part::kZero && state.negative) return false;  // -0
    if (state.remainder != 0) return false;
    const bool fraction = state.part == Part::kFraction;
    const State ended = fraction ? state : with_whole_ended(state);
    return within(range_.low, state.negative, ended.low, state.fraction_digits, 1) &&
           within(range_.high, state.negative, ended.high, state.fraction_digits, -1);
  }

 private:
  // Is the number on the right side (1: above, -1: below) of the bound?
  static bool within(const std::optional<NumberRange::Bound>& bound, bool negative, const Comparison& comparison,
                     int32_t fraction_digits, int side) {
    if (!bound) return true;
    if (negative != bound->value.negative && !bound->value.is_zero()) return (negative ? -1 : 1) == side;
    int order = comparison.settled;
    if (order == 0 && static_cast<size_t>(fraction_digits) < bound->value.fraction.size())
      order = -1;  // its last digit is not 0
    if (order == 0) return !bound->exclusive;
    return (negative ? -order : order) == side;
  }

  std::optional<State> digit(State next, char c) const {
    switch (next.part) {
      case Part::kStart:
      case Part::kMinus:
        next.part = c == '0' ? Part::kZero : Part::kWhole;
        if (c != '0') add_whole(next, c);
        return next;
      case Part::kZero:
        return std::nullopt;
      case Part::kWhole:
        if (next.whole_digits >= std::max(max_whole_, kWholeDigits)) return std::nullopt;
        add_whole(next, c);
        return next;
      case Part::kPoint:
      case Part::kFraction:
        break;
    }
    if (next.fraction_digits >= max_fraction_) return std::nullopt;
    next.part = Part::kFraction;
    for (auto [comparison, bound] : {std::pair(&next.low, &range_.low), std::pair(&next.high, &range_.high)}) {
      if (!*bound || comparison->settled != 0) continue;
      const std::string& fraction = (*bound)->value.fraction;
      const auto at = static_cast<size_t>(next.fraction_digits);
      const char other = at < fraction.size() ? fraction[at] : '0';
      comparison->settled = static_cast<int8_t>((c > other) - (c < other));
    }
    ++next.fraction_digits;
    return next;
  }

  void add_whole(State& state, char c) const {
    for (auto [comparison, bound] : {std::pair(&state.low, &range_.low), std::pair(&state.high, &range_.high)}) {
      if (!*bound || comparison->digits != 0) continue;
      const std::string& whole = (*bound)->value.whole;
      const auto at = static_cast<size_t>(state.whole_digits);
      if (at < whole.size()) comparison->digits = static_cast<int8_t>((c > whole[at]) - (c < whole[at]));
    }
    ++state.whole_digits;
    state.remainder = (state.remainder * 10 + (c - '0')) % range_.multiple_of;
  }

  State with_whole_ended(State state) const {
    for (auto [comparison, bound] : {std::pair(&state.low, &range_.low), std::pair(&state.high, &range_.high)}) {
      if (!*bound) continue;
      const auto digits = static_cast<int32_t>((*bound)->value.whole.size());
      comparison->settled =
          state.whole_digits != digits ? static_cast<int8_t>(state.whole_digits < digits ? -1 : 1) : comparison->digits;
      comparison->digits = 0;
    }
    return state;
  }

  const NumberRange& range_;
  int32_t max_whole_ = 0, max_fraction_ = kFractionDigits;
};

}  // namespace

std::optional<Decimal> Decimal::parse(std::string_view text) {
  Decimal value;
  if (text.starts_with('-')) value.negative = true, text.remove_prefix(1);
  int exponent = 0;
  if (const size_t e = text.find_first_of("eE"); e != std::string_view::npos) {
    std::string_view digits = text.substr(e + 1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    if (std::from_chars(digits.data(), digits.data() + digits.size(), exponent).ec != std::errc()) return std::nullopt;
    text = text.substr(0, e);
  }
  const size_t point = std::min(text.find('.'), text.size());
  std::string digits(text.substr(0, point));
  if (point < text.size()) digits += text.substr(point + 1);
  if (std::abs(exponent) > kMaxDigits || digits.size() > kMaxDigits) return std::nullopt;
  int64_t whole = static_cast<int64_t>(point) + exponent;  // digits in front of the point
  if (whole < 0) digits.insert(0, static_cast<size_t>(-whole), '0'), whole = 0;
  if (whole > std::ssize(digits)) digits.append(static_cast<size_t>(whole) - digits.size(), '0');
  value.whole = digits.substr(0, static_cast<size_t>(whole));
  value.fraction = digits.substr(static_cast<size_t>(whole));
  value.whole.erase(0, std::min(value.whole.find_first_not_of('0'), value.whole.size()));
  value.fraction.erase(value.fraction.find_last_not_of('0') + 1);
  if (value.is_zero()) value.negative = false;
  return value;
}

Decimal Decimal::negated() const {
  Decimal value = *this;
  if (!is_zero()) value.negative = !negative;
  return value;
}

std::string Decimal::text() const {
  return (negative ? "-" : "") + (whole.empty() ? "0" : whole) + (fraction.empty() ? "" : "." + fraction);
}

std::strong_ordering Decimal::operator<=>(const Decimal& other) const {
  if (negative != other.negative) return negative ? std::strong_ordering::less : std::strong_ordering::greater;
  return negative ? compare_magnitudes(other, *this) : compare_magnitudes(*this, other);
}

ByteDfa number_dfa(const NumberRange& range) {
  const Scanner scanner(range);
  return explore(
      State{}, [&](const State& state, uint8_t byte) { return scanner.step(state, byte); },
      [&](const State& state) { return scanner.accepts(state); });
}

}  // namespace shoal::text
