// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/tool_grammar.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json_file.h"
#include "text/grammar/schema_rules.h"

namespace shoal::text {
namespace {

struct Tool {
  std::string name;
  int32_t arguments;  // rule
};

// What stands around a call; {} is the tool's name.
struct CallMarkup {
  std::string before_all, before, between_name_and_arguments, after, between_calls, after_all;
  bool name_is_quoted = false;
};

CallMarkup markup_of(const AssistantFormat& format) {
  switch (format.tools) {
    case ToolFormat::kHermes:
      return {"", "<tool_call>\n{\"name\": ", ", \"arguments\": ", "}\n</tool_call>", "\n", "", true};
    case ToolFormat::kLlamaJson:
      return {"", "{\"name\": ", ", \"parameters\": ", "}", "; ", "", true};
    case ToolFormat::kMistral:
      return {"[TOOL_CALLS][", "{\"name\": ", ", \"arguments\": ", "}", ", ", "]", true};
    case ToolFormat::kDeepSeek:
      if (format.json_fence)
        return {"<｜tool▁calls▁begin｜>",
                "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                "\n```json\n",
                "\n```<｜tool▁call▁end｜>",
                "\n",
                "<｜tool▁calls▁end｜>"};
      return {"<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "",
              "<｜tool▁calls▁end｜>"};
    case ToolFormat::kKimi:
      return {"<|tool_calls_section_begin|>",
              "<|tool_call_begin|>functions.",
              ":0<|tool_call_argument_begin|>",
              "<|tool_call_end|>",
              "",
              "<|tool_calls_section_end|>"};
    case ToolFormat::kHarmony:
      return {"", "<|channel|>commentary to=functions.", " <|constrain|>json<|message|>", "", "", ""};
    default:
      break;
  }
  throw Error(
      ErrorKind::kUnsupported,
      "this model writes the arguments of tool calls in a form that cannot be constrained; use tool_choice \"auto\"");
}

// Reads `text` from `from`, its special tokens each as a whole.
int32_t marked(std::string_view text, int32_t from, const GrammarBase& base, Automaton& automaton) {
  while (!text.empty()) {
    size_t length = 1;
    std::optional<int32_t> special;
    if (text.front() == '<' || text.front() == '[') {
      const size_t end = text.find(text.front() == '<' ? '>' : ']');
      if (end != std::string_view::npos) special = base.tokenizer.id_of(text.substr(0, end + 1));
      if (special && base.tokenizer.is_special(*special))
        length = end + 1;
      else
        special.reset();
    }
    if (special) {
      const int32_t next = automaton.add_node();
      automaton.nodes[from].tokens.push_back({*special, next});
      from = next;
    } else {
      from = automaton.literal(from, text.substr(0, length));
    }
    text.remove_prefix(length);
  }
  return from;
}

std::vector<Tool> add_tools(const SchemaJson& tools, const GrammarBase& base, Automaton& automaton) {
  std::vector<Tool> added;
  static const SchemaJson anything = {{"type", "object"}};
  for (size_t i = 0; i < tools.size(); ++i) {
    const SchemaJson none;
    const SchemaJson& function = tools[i].is_object() && tools[i].contains("function") ? tools[i]["function"] : none;
    if (!function.is_object() || !function.contains("name") || !function["name"].is_string())
      throw Error(
          ErrorKind::kInvalid,
          fmt::format("tools/{}: must be {{\"type\": \"function\", \"function\": {{\"name\": …, \"parameters\": …}}}}",
                      i));
    const auto name = function["name"].get<std::string>();
    const bool has_schema = function.contains("parameters") && !function["parameters"].is_null();
    try {
      added.push_back({name, add_schema(has_schema ? function["parameters"] : anything, automaton, base.json)});
    } catch (const Error& error) {
      throw Error(error.kind(),
                  fmt::format("tools/{}/function/parameters of \"{}\": {}", i, printable(name), error.what()));
    }
  }
  return added;
}

}  // namespace

int32_t add_tool_calls(const SchemaJson& tools, const AssistantFormat& format, bool parallel, const GrammarBase& base,
                       Automaton& automaton) {
  const CallMarkup markup = markup_of(format);
  const std::vector<Tool> added = add_tools(tools, base, automaton);
  const int32_t start = automaton.add_node(), after_call = automaton.add_node();
  const int32_t call = marked(markup.before, marked(markup.before_all, start, base, automaton), base, automaton);
  for (const Tool& tool : added) {
    const std::string name = markup.name_is_quoted ? json_string(tool.name) : tool.name;
    const int32_t choice_start = automaton.add_node();
    const int32_t arguments =
        marked(markup.between_name_and_arguments, automaton.literal(choice_start, name), base, automaton);
    const int32_t end = automaton.add_node();
    automaton.nodes[end].ends = true;
    automaton.call(arguments, tool.arguments, end);
    automaton.call(call, automaton.add_rule({.start = choice_start}), after_call);
  }
  const int32_t end = marked(markup.after, after_call, base, automaton);
  const bool repeats = parallel && format.tools != ToolFormat::kHarmony;
  const int32_t last = marked(markup.after_all, end, base, automaton);
  automaton.nodes[last].ends = true;
  if (!repeats) return automaton.add_rule({.start = start});
  // Behind a call another one may begin, with the same marks.
  const int32_t again = automaton.add_node();
  const int32_t next = marked(markup.before, marked(markup.between_calls, again, base, automaton), base, automaton);
  automaton.nodes[next].also = call;
  automaton.nodes[end].also = again;
  return automaton.add_rule({.start = start});
}

int32_t add_reasoning(const FreeReasoning& reasoning, int32_t rule, const GrammarBase& base, Automaton& automaton) {
  const std::string& mark = reasoning.end;
  if (mark.empty()) return rule;
  const int32_t behind = automaton.add_node(), answer = automaton.add_node(), end = automaton.add_node();
  automaton.nodes[end].ends = true;
  automaton.call(answer, rule, end);
  automaton.call(behind, base.json.blanks, answer);
  // Any bytes up to the mark: state i has read its first i bytes (Knuth, Morris, Pratt 1977).
  std::vector<int32_t> states;
  for (size_t i = 0; i < mark.size(); ++i) states.push_back(automaton.add_node());
  states.push_back(behind);
  const auto after = [&](size_t matched, char byte) {
    const std::string read = mark.substr(0, matched) + byte;
    size_t longest = std::min(read.size(), mark.size());
    while (!read.ends_with(mark.substr(0, longest))) --longest;
    return states[longest];
  };
  const std::optional<int32_t> token = base.tokenizer.id_of(mark);
  for (size_t i = 0; i < mark.size(); ++i) {
    for (int byte = 0; byte < 256;) {
      const int first = byte;
      const int32_t to = after(i, static_cast<char>(byte));
      while (byte < 256 && after(i, static_cast<char>(byte)) == to) ++byte;
      automaton.edge(states[i], static_cast<uint8_t>(first), static_cast<uint8_t>(byte - 1), to);
    }
    if (token && base.tokenizer.is_special(*token)) automaton.nodes[states[i]].tokens.push_back({*token, behind});
  }
  if (reasoning.begun) return automaton.add_rule({.start = states.front()});
  const int32_t start = automaton.add_node();
  const int32_t thinking = marked(reasoning.begin, start, base, automaton);
  automaton.nodes[thinking].also = states.front();
  automaton.call(start, rule, end);
  return automaton.add_rule({.start = start});
}

}  // namespace shoal::text
