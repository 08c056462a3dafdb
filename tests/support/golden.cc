// SPDX-License-Identifier: Apache-2.0
#include "tests/support/golden.h"

#include <cmath>
#include <cstring>

#include "base/json_file.h"
#include "base/mmap.h"
#include "model/safetensors.h"

namespace shoal {

namespace {

GoldenCase read_case(const nlohmann::json& json) {
  GoldenCase result;
  result.prompt = json.at("prompt").get<std::vector<int32_t>>();
  result.prompt_text = json.value("prompt_text", "");
  for (const nlohmann::json& step : json.at("greedy")) {
    result.greedy.push_back(step.at("token").get<int32_t>());
    result.logprobs.push_back(step.at("logprob").get<float>());
    result.margins.push_back(step.at("margin").get<float>());
  }
  result.strict_rows = json.value("strict_rows", static_cast<int64_t>(result.prompt.size()));
  result.strict_greedy = json.value("strict_greedy", static_cast<int64_t>(result.greedy.size()));
  return result;
}

std::vector<double> log_softmax(const float* row, int64_t vocab) {
  double largest = row[0], sum = 0.0;
  for (int64_t i = 1; i < vocab; ++i) largest = std::max(largest, static_cast<double>(row[i]));
  for (int64_t i = 0; i < vocab; ++i) sum += std::exp(row[i] - largest);
  std::vector<double> result(vocab);
  for (int64_t i = 0; i < vocab; ++i) result[i] = row[i] - largest - std::log(sum);
  return result;
}

}  // namespace

std::vector<GoldenCase> load_golden(const std::filesystem::path& dir) {
  std::vector<GoldenCase> cases;
  const nlohmann::json json = read_json_file(dir / "golden.json");
  for (const nlohmann::json& item : json.at("cases")) cases.push_back(read_case(item));
  if (!std::filesystem::exists(dir / "golden.safetensors")) return cases;
  const MappedFile file(dir / "golden.safetensors");
  const auto tensors = parse_safetensors(file.bytes(), dir / "golden.safetensors");
  for (size_t i = 0; i < cases.size(); ++i) {
    const StoredTensor& stored = tensors.at("logits_" + std::to_string(i));
    cases[i].vocab = stored.shape.at(1);
    cases[i].logits.resize(stored.data.size() / sizeof(float));
    std::memcpy(cases[i].logits.data(), stored.data.data(), stored.data.size());
    cases[i].first_row = static_cast<int64_t>(cases[i].prompt.size()) - cases[i].rows();
  }
  return cases;
}

double mean_kl(const std::vector<float>& reference, const std::vector<float>& ours, int64_t vocab) {
  const int64_t rows = static_cast<int64_t>(reference.size()) / vocab;
  double total = 0.0;
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<double> p = log_softmax(reference.data() + row * vocab, vocab),
                              q = log_softmax(ours.data() + row * vocab, vocab);
    for (int64_t i = 0; i < vocab; ++i) total += std::exp(p[i]) * (p[i] - q[i]);
  }
  return total / static_cast<double>(rows);
}

}  // namespace shoal
