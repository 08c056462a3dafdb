// SPDX-License-Identifier: Apache-2.0
// The "post_processor" of tokenizer.json, for one sequence: ids put before and after the text's when special tokens are asked for.
// Known types: TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel (adds nothing), Sequence; others are refused by name.
#pragma once

#include <cstdint>
#include <vector>

#include "text/json_read.h"

namespace shoal::text {

struct PostProcessor {
  PostProcessor() = default;
  explicit PostProcessor(Json json) { add(json); }

  std::vector<int32_t> prefix, suffix;

 private:
  void add(Json json);
  void add_template(Json json);
};

}  // namespace shoal::text
