// SPDX-License-Identifier: Apache-2.0
// Tokens to a syntax tree, with Jinja 3's grammar and precedence. Nesting is bounded, so that recursion over the tree is too.
// Statements: if, for, set, macro, call, filter, generation, raw, break, continue; others are refused by name.
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace shoal::text::jinja {

Block parse_template(std::string_view source);

}  // namespace shoal::text::jinja
