// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <list>
#include <mutex>

#include "base/error.h"
#include "base/json_file.h"
#include "text/grammar/grammar_impl.h"
#include "text/grammar/schema_rules.h"
#include "text/grammar/tool_grammar.h"

namespace shoal {
namespace {

constexpr size_t kKeptGrammars = 32;
constexpr int64_t kMaxSchemaBytes = int64_t{1} << 20;

}  // namespace

struct GrammarCompiler::Impl {
  explicit Impl(const Tokenizer& tokenizer) : base(std::make_shared<const text::GrammarBase>(tokenizer)) {}

  // Adds what the whole text is to an automaton that begins with the rules of JSON; returns the rule.
  using AddRoot = std::function<int32_t(text::Automaton& automaton)>;

  std::shared_ptr<const Grammar> find_or_make(const std::string& key, const FreeReasoning& reasoning,
                                              const AddRoot& add_root) {
    const std::string full_key = fmt::format("{}\n{}\n{}\n{}", reasoning.begin, reasoning.end, reasoning.begun, key);
    {
      const std::lock_guard lock(mutex);
      const auto found = std::find_if(kept.begin(), kept.end(), [&](const auto& one) { return one.first == full_key; });
      if (found != kept.end()) {
        kept.splice(kept.begin(), kept, found);
        return found->second;
      }
    }
    text::Automaton automaton = base->automaton;
    automaton.root = text::add_reasoning(reasoning, add_root(automaton), *base, automaton);
    automaton.finish(base->json.node_count, base->json.rule_count);
    auto grammar = std::make_shared<const Grammar>(base, std::move(automaton));
    const std::lock_guard lock(mutex);
    kept.emplace_front(full_key, grammar);
    if (kept.size() > kKeptGrammars) kept.pop_back();
    return grammar;
  }

  std::shared_ptr<const text::GrammarBase> base;
  std::mutex mutex;
  std::list<std::pair<std::string, std::shared_ptr<const Grammar>>> kept;  // the latest first
};

GrammarCompiler::GrammarCompiler(const Tokenizer& tokenizer) : impl_(std::make_unique<Impl>(tokenizer)) {}
GrammarCompiler::~GrammarCompiler() = default;

std::shared_ptr<const Grammar> GrammarCompiler::json_object(const FreeReasoning& reasoning) {
  return json_schema(R"({"type": "object"})", reasoning);
}

std::shared_ptr<const Grammar> GrammarCompiler::json_schema(std::string_view schema, const FreeReasoning& reasoning) {
  parse_json(schema, "schema", {.bytes = kMaxSchemaBytes, .depth = 128});
  return impl_->find_or_make(std::string(schema), reasoning, [&](text::Automaton& automaton) {
    const text::SchemaJson json = text::SchemaJson::parse(schema);  // in the order of the text
    const int32_t value = text::add_schema(json, automaton, impl_->base->json);
    return text::JsonBuilder(automaton, impl_->base->json).text(value);
  });
}

std::shared_ptr<const Grammar> GrammarCompiler::tool_calls(const nlohmann::ordered_json& tools,
                                                           const AssistantFormat& format, bool parallel,
                                                           const FreeReasoning& reasoning) {
  const std::string key =
      fmt::format("tools {} {} {} {}", static_cast<int>(format.tools), format.json_fence, parallel, tools.dump());
  if (!tools.is_array() || tools.empty()) throw Error(ErrorKind::kInvalid, "tools must be a list of at least one tool");
  parse_json(tools.dump(), "tools", {.bytes = kMaxSchemaBytes, .depth = 128});
  return impl_->find_or_make(key, reasoning, [&](text::Automaton& automaton) {
    return text::add_tool_calls(tools, format, parallel, *impl_->base, automaton);
  });
}

struct TokenConstraint::Impl {
  explicit Impl(std::shared_ptr<const Grammar> allowed)
      : grammar(std::move(allowed)), stacks(grammar->automaton), filler(stacks, grammar->base->trie) {
    const text::Automaton& automaton = grammar->automaton;
    const text::Rule& root = automaton.rules[automaton.root];
    stacks.begin(ways);
    stacks.enter({.frame = {root.start, root.need, root.room},
                  .below = text::kRootBelow,
                  .depth = static_cast<int16_t>(root.nests ? 1 : 0),
                  .counted = {}},
                 ways);
  }

  std::shared_ptr<const Grammar> grammar;
  text::Stacks stacks;
  text::MaskFiller filler;
  text::Ways ways, next, before;
};

TokenConstraint::TokenConstraint(std::shared_ptr<const Grammar> grammar)
    : impl_(std::make_unique<Impl>(std::move(grammar))) {}
TokenConstraint::TokenConstraint(TokenConstraint&&) noexcept = default;
TokenConstraint& TokenConstraint::operator=(TokenConstraint&&) noexcept = default;
TokenConstraint::~TokenConstraint() = default;

void TokenConstraint::fill_mask(std::span<uint64_t> words) {
  std::fill(words.begin(), words.end(), 0);
  for (const text::Way& way : impl_->ways.tops) {
    const auto table = impl_->grammar->table(way.frame.node, text::kMaxNesting - way.depth);
    impl_->filler.fill(way, *table, words);
  }
}

bool TokenConstraint::accept(int32_t token) {
  Impl& s = *impl_;
  const std::string_view bytes = s.grammar->base->trie.bytes(token);
  if (bytes.empty()) {
    s.stacks.step_token(s.ways, token, s.next);
    if (s.next.none()) return false;
    std::swap(s.ways, s.next);
    return true;
  }
  s.before = s.ways;
  for (const char byte : bytes) {
    s.stacks.step(s.ways, static_cast<uint8_t>(byte), s.next);
    std::swap(s.ways, s.next);
    if (!s.ways.none()) continue;
    std::swap(s.ways, s.before);
    return false;
  }
  return true;
}

bool TokenConstraint::may_end() const { return impl_->ways.complete; }
bool TokenConstraint::must_end() const { return impl_->ways.complete && impl_->ways.tops.empty(); }

}  // namespace shoal
