// SPDX-License-Identifier: Apache-2.0
// Regular expressions of JSON Schema (`pattern`) as automata: the part of ECMA-262's that is regular, read as in the `u` mode. Characters,
// `.`, classes, \d \w \s and their opposites, groups, alternatives, * + ? {m,n} greedy or not, ^ and $. As the standard says, a pattern may match anywhere
// in the string unless ^ and $ hold it. Look-around, back references, \b and \p are errors that name them.
#pragma once

#include <string_view>

#include "text/grammar/byte_dfa.h"

namespace shoal::text {

// Throws Error: kInvalid (no regular expression), kUnsupported, kLimit.
ByteDfa pattern_dfa(std::string_view pattern);

}  // namespace shoal::text
