// SPDX-License-Identifier: Apache-2.0
// Reference results beside a test checkpoint: golden.json (prompts, greedy tokens) and golden.safetensors (logits).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace shoal {

struct GoldenCase {
  std::vector<int32_t> prompt;
  std::string prompt_text;      // empty if the file gives none
  std::vector<int32_t> greedy;  // tokens
  std::vector<float> logprobs;  // of `greedy`
  std::vector<float> margins;   // to the runner-up
  int64_t strict_rows = 0;      // leading prompt positions at which no decision of the model is a near-tie
  int64_t strict_greedy = 0;    // leading greedy tokens likewise
  int64_t first_row = 0;        // position of logits' first row
  int64_t vocab = 0;
  std::vector<float> logits;  // [rows, vocab]; empty if the file gives none
  int64_t rows() const { return vocab ? static_cast<int64_t>(logits.size()) / vocab : 0; }
};

// Cases of `dir`/golden.json; limits that the file does not state are the whole prompt and continuation.
std::vector<GoldenCase> load_golden(const std::filesystem::path& dir);

// Mean over rows of KL(reference || ours), natural logarithm. Both [rows, vocab].
double mean_kl(const std::vector<float>& reference, const std::vector<float>& ours, int64_t vocab);

}  // namespace shoal
