// SPDX-License-Identifier: Apache-2.0
// Text and token ids by a model directory's own tokenizer and chat template.
#pragma once

#include <filesystem>
#include <optional>

#include "apps/bench/dataset.h"
#include "text/tokenizer.h"

namespace shoal::bench {

class ModelTokens {
 public:
  // Error if there is no such directory. A directory without tokenizer.json serves for token ids only.
  explicit ModelTokens(const std::filesystem::path& model_dir);

  const std::optional<Tokenizer>& tokenizer() const { return tokenizer_; }
  // Ids below `vocab`; must not outlive this.
  TextTokens text_tokens(int64_t vocab) const;

 private:
  std::filesystem::path model_dir_;
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace shoal::bench
