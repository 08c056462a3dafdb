// SPDX-License-Identifier: Apache-2.0
// From a JSON Schema to the rules of a grammar that reads exactly some of the texts that it allows: properties in the order in which
// they are declared, further ones behind them and only where additionalProperties or patternProperties ask for them (or no property is declared),
// numbers with bounds without exponents, strings held to a pattern or format without \u escapes. docs/structured-output.md says so to users.
#pragma once

#include "text/grammar/json_rules.h"
#include "text/grammar/schema.h"

namespace shoal::text {

// Adds to an automaton that begins with `json`; returns the rule of a value. Throws Error as GrammarCompiler::json_schema does.
int32_t add_schema(const SchemaJson& schema, Automaton& automaton, const JsonRules& json);

}  // namespace shoal::text
