// SPDX-License-Identifier: Apache-2.0
// What is checked before anything large is read: that a layout can compute a model, and that a checkpoint holds it.
#include <fmt/format.h>
#include <algorithm>
#include <numeric>
#include <set>

#include "model/checkpoint.h"
#include "model/decoder.h"
#include "model/model.h"
#include "parallel/cuts.h"

namespace shoal {

namespace {

std::string divisors_near(int64_t n, int64_t value) {
  int64_t below = 1, above = n;
  for (int64_t d = 1; d <= n; ++d) {
    if (n % d != 0) continue;
    if (d <= value) below = d;
    if (d >= value && above == n) above = d;
  }
  return below == above ? fmt::format("{}", below) : fmt::format("{} or {}", below, above);
}

// Distinct layers only: most models repeat one or two.
template <typename Key>
bool first_time(std::set<Key>& seen, const Key& key) {
  return seen.insert(key).second;
}

void check_heads(const ModelSpec& spec, int64_t attn_tp, std::vector<std::string>& problems) {
  std::set<std::pair<int64_t, int64_t>> seen;
  for (const DecoderLayer& layer : spec.layers) {
    const AttentionLayer& attention = layer.attention;
    if (!first_time(seen, std::pair(attention.heads, attention.kv_heads))) continue;
    if (attention.heads % attn_tp != 0)
      problems.push_back(fmt::format(
          "attention tensor parallel size {} must divide the model's {} query heads; nearest that works: {}", attn_tp,
          attention.heads, divisors_near(attention.heads, attn_tp)));
    if (!attention.mla && attention.kv_heads % attn_tp != 0 && attn_tp % attention.kv_heads != 0)
      problems.push_back(fmt::format(
          "attention tensor parallel size {} must divide the model's {} KV heads or be a multiple of them; "
          "nearest that works: {}",
          attn_tp, attention.kv_heads, divisors_near(attention.kv_heads, std::min(attn_tp, attention.kv_heads))));
  }
}

void check_at_most(const std::string& what, int64_t ranks, const std::string& of, int64_t units,
                   std::vector<std::string>& problems) {
  if (ranks > units)
    problems.push_back(
        fmt::format("{} {} is more than the model's {} {}; use at most {}", what, ranks, units, of, units));
}

// What the ranks that work on the same tokens are called by users.
std::string sharers(const GridSizes& sizes) {
  const std::string attention = "attention tensor parallel size";
  return sizes.context > 1 ? attention + " * context_parallel_size" : attention;
}

void check_ffn(const ModelSpec& spec, const GridSizes& sizes, std::vector<std::string>& problems) {
  const int64_t ffn_tp = int64_t{sizes.tensor} / sizes.attention_data * sizes.context;
  std::set<std::pair<bool, int64_t>> seen;
  for (const DecoderLayer& layer : spec.layers) {
    if (!first_time(seen, std::pair(layer.moe.has_value(), layer.moe ? layer.moe->experts : layer.dense.ffn))) continue;
    if (!layer.moe) {
      check_at_most(sharers(sizes), ffn_tp, "FFN columns", layer.dense.ffn, problems);
      continue;
    }
    check_at_most("moe_expert_parallel_size", sizes.moe_expert, "experts", layer.moe->experts, problems);
    check_at_most("moe_tensor_parallel_size", sizes.moe_tensor, "expert FFN columns", layer.moe->ffn, problems);
    if (layer.moe->shared_ffn > 0)
      check_at_most(sharers(sizes), ffn_tp, "shared expert columns", layer.moe->shared_ffn, problems);
  }
}

void check_stages(int64_t layers, const GridSizes& sizes, const std::vector<int64_t>& partition,
                  std::vector<std::string>& problems) {
  check_at_most("pipeline_parallel_size", sizes.pipeline, "layers", layers, problems);
  if (partition.empty()) return;
  const int64_t sum = std::accumulate(partition.begin(), partition.end(), int64_t{0});
  if (static_cast<int64_t>(partition.size()) != sizes.pipeline)
    problems.push_back(fmt::format("pp_partition has {} entries; it needs one for each of {} stages", partition.size(),
                                   sizes.pipeline));
  if (sum != layers)
    problems.push_back(fmt::format("pp_partition sums to {}; it must sum to the model's {} layers", sum, layers));
  if (std::any_of(partition.begin(), partition.end(), [](int64_t n) { return n < 1; }))
    problems.push_back("pp_partition holds a stage without layers; each needs at least 1");
}

// Tensors that other software reads, or that older exporters wrote beside the weights.
bool outside_text_model(const ModelSpec& spec, const std::string& name) {
  for (const std::string& prefix : spec.ignored)
    if (name.starts_with(prefix)) return true;
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  if (spec.tied_embeddings && name == spec.prefix + "lm_head.weight") return true;
  const std::string layers = spec.prefix + "model.layers.";
  if (!name.starts_with(layers)) return false;
  const std::string digits = name.substr(layers.size(), name.find('.', layers.size()) - layers.size());
  if (digits.empty() || digits.size() > 6 ||
      !std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return false;
  return std::stoll(digits) >= static_cast<int64_t>(spec.layers.size());
}

}  // namespace

std::vector<std::string> layout_problems(const ModelSpec& spec, const GridSizes& sizes,
                                         const std::vector<int64_t>& pp_partition) {
  std::vector<std::string> problems;
  const int64_t attn_tp = sizes.tensor / std::max(1, sizes.attention_data);
  if (attn_tp < 1) return problems;  // the grid itself is refused elsewhere
  check_heads(spec, attn_tp, problems);
  check_ffn(spec, sizes, problems);
  check_at_most(sharers(sizes), attn_tp * sizes.context, "vocabulary rows", spec.vocab, problems);
  check_stages(static_cast<int64_t>(spec.layers.size()), sizes, pp_partition, problems);
  return problems;
}

std::vector<std::string> checkpoint_problems(const ModelSpec& spec, const Checkpoint& checkpoint,
                                             std::vector<std::string>& notices) {
  const Mesh one_rank{GridSizes{}};
  const ModelOptions options;
  WeightTable weights(one_rank, 0, options.compute);
  const BuildContext build{spec, options, one_rank, 0, weights};
  const Decoder whole({0, static_cast<int64_t>(spec.layers.size())}, build);
  std::vector<std::string> problems;
  std::set<std::string> used, reported;
  for (const MatrixSource& source : weights.sources()) {
    for (const std::string& name : checkpoint.names(source)) used.insert(name);
    const std::string problem = checkpoint.problem(source);
    if (!problem.empty() && reported.insert(problem).second) problems.push_back(problem);
  }
  int64_t skipped = 0;
  std::string example;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (used.contains(name)) continue;
    if (outside_text_model(spec, name)) {
      ++skipped;
      example = name;
    } else {
      problems.push_back(
          fmt::format("{}: tensor '{}' is not part of a {} model; remove it, or check model_type in config.json",
                      tensor.file.string(), name, spec.family));
    }
  }
  if (skipped > 0)
    notices.push_back(fmt::format("{} tensors outside the text model are skipped, such as {}", skipped, example));
  return problems;
}

}  // namespace shoal
