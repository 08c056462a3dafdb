// SPDX-License-Identifier: Apache-2.0
// Constrained decoding: a Grammar says which texts are allowed, a TokenConstraint follows one text token by token.
// Invariants: a Grammar is immutable to its users and may be shared by any number of threads and requests; a TokenConstraint belongs to
// one request, never allows a token after which no allowed text is left, and what it allows depends on the accepted tokens only.
// Not here: sampling (engine/sampler.h), what tool calls look like (tool_calls.h).
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace shoal {

class Grammar;
struct AssistantFormat;

// Reasoning that comes before the constrained text and is free: `begin` … `end`, if the model likes, or with `begun` (the prompt's end holds `begin`) anything
// up to `end`. Empty marks: none.
struct FreeReasoning {
  std::string begin, end;
  bool begun = false;
};

// Compiles grammars for one tokenizer and keeps the latest ones. Every method may be called from many threads.
class GrammarCompiler {
 public:
  // Indexes the vocabulary: some 100 ms for 128,000 tokens.
  explicit GrammarCompiler(const Tokenizer& tokenizer);
  ~GrammarCompiler();

  // Any JSON object.
  std::shared_ptr<const Grammar> json_object(const FreeReasoning& reasoning = {});
  // What the JSON Schema (draft 2020-12, the subset of docs/structured-output.md) describes. Throws Error that names the keyword, where it
  // stands (JSON pointer) and what would do: kInvalid for a wrong schema or one that nothing satisfies, kUnsupported, kLimit for one that is too large.
  std::shared_ptr<const Grammar> json_schema(std::string_view schema, const FreeReasoning& reasoning = {});
  // A call of one of `tools` (OpenAI's list of {"type": "function", "function": {"name", "parameters"}}), or with `parallel` one or more, with arguments
  // that their schemas allow, in the markup of `format`. For tool_choice: "required", or one tool by name (then `tools` is that one).
  std::shared_ptr<const Grammar> tool_calls(const nlohmann::ordered_json& tools, const AssistantFormat& format,
                                            bool parallel, const FreeReasoning& reasoning = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class TokenConstraint {
 public:
  explicit TokenConstraint(std::shared_ptr<const Grammar> grammar);
  TokenConstraint(TokenConstraint&&) noexcept;
  TokenConstraint& operator=(TokenConstraint&&) noexcept;
  ~TokenConstraint();

  // Sets bit id % 64 of words[id / 64] for each token allowed next, clears all others. Ids beyond the tokenizer's are not allowed; neither
  // are special tokens: whoever samples allows those that end the text where may_end().
  void fill_mask(std::span<uint64_t> words);
  // False, and nothing changes, if the token is not allowed.
  bool accept(int32_t token);
  // The text so far is complete.
  bool may_end() const;
  // The text so far is complete and nothing can follow.
  bool must_end() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal
