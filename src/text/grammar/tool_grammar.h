// SPDX-License-Identifier: Apache-2.0
// Rules for what surrounds constrained JSON: the markup of tool calls, and free reasoning in front. Marks that are special tokens are read as such.
#pragma once

#include "text/grammar/grammar.h"
#include "text/grammar/grammar_impl.h"
#include "text/grammar/schema.h"
#include "text/tool_calls.h"

namespace shoal::text {

// Calls of `tools`, as GrammarCompiler::tool_calls says. Error(kUnsupported) for a format whose arguments are not JSON.
int32_t add_tool_calls(const SchemaJson& tools, const AssistantFormat& format, bool parallel, const GrammarBase& base,
                       Automaton& automaton);
// `rule` with reasoning in front; `rule` itself if there is none.
int32_t add_reasoning(const FreeReasoning& reasoning, int32_t rule, const GrammarBase& base, Automaton& automaton);

}  // namespace shoal::text
