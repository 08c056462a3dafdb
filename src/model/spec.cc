// SPDX-License-Identifier: Apache-2.0
#include "model/spec.h"

#include <array>

#include "base/error.h"
#include "base/json_file.h"
#include "model/config_reader.h"
#include "model/families/family.h"

namespace shoal {

namespace {

struct Family {
  const char* model_type;
  ModelSpec (*read)(const ConfigReader&);
};

constexpr std::array kFamilies = {
    Family{"llama", llama_spec},
    Family{"qwen2", qwen2_spec},
    Family{"qwen3", qwen3_spec},
    Family{"qwen3_moe", qwen3_moe_spec},
    Family{"mixtral", mixtral_spec},
    Family{"deepseek_v2", deepseek_v2_spec},
    Family{"deepseek_v3", deepseek_v3_spec},
    Family{"kimi_k2", deepseek_v3_spec},
    Family{"llama4_text", llama4_spec},
    Family{"gpt_oss", gpt_oss_spec},
    Family{"glm4_moe", glm4_moe_spec},
};

const Family& find_family(const ConfigReader& config) {
  const std::string type = config.text_or("model_type", "");
  std::string known;
  for (const Family& family : kFamilies) {
    if (type == family.model_type) return family;
    known += std::string(known.empty() ? "" : ", ") + family.model_type;
  }
  config.fail("model_type", "one of " + known + ", or llama4 with a text_config");
}

void read_quantisation(const ConfigReader& config, ModelSpec& spec) {
  const std::optional<ConfigReader> quantisation = config.object("quantization_config");
  if (!quantisation) return;
  const std::string method = quantisation->text_or("quant_method", "");
  if (method == "mxfp4") return;
  if (method != "fp8") quantisation->fail("quant_method", "fp8 or mxfp4");
  const std::vector<int64_t> block = quantisation->sizes_or("weight_block_size", {128, 128});
  if (block.size() != 2 || block[0] < 1 || block[1] < 1) quantisation->fail("weight_block_size", "two sizes from 1");
  spec.fp8_weights = true;
  spec.fp8_block_rows = block[0];
  spec.fp8_block_columns = block[1];
}

void check_moe(const ModelSpec& spec, const ConfigReader& config) {
  for (const DecoderLayer& layer : spec.layers) {
    if (layer.moe && layer.moe->top_k > layer.moe->experts)
      config.fail("num_experts_per_tok", "at most the number of experts, " + std::to_string(layer.moe->experts));
    if (!layer.moe) continue;
    const RouterSpec& router = layer.moe->router;
    if (layer.moe->experts / router.groups * router.top_groups < layer.moe->top_k)
      config.fail("topk_group", "large enough that its groups hold num_experts_per_tok experts");
  }
}

void add_stop_ids(const std::vector<int32_t>& ids, ModelSpec& spec) {
  for (const int32_t id : ids) {
    bool known = false;
    for (const int32_t have : spec.stop_ids) known = known || have == id;
    if (!known) spec.stop_ids.push_back(id);
  }
}

ModelSpec read_text_model(const ConfigReader& config) {
  ModelSpec spec = find_family(config).read(config);
  spec.family = config.text_or("model_type", "");
  for (DecoderLayer& layer : spec.layers) {
    if (!layer.moe) continue;
    layer.moe->router.experts = layer.moe->experts;
    layer.moe->router.top_k = layer.moe->top_k;
  }
  check_moe(spec, config);
  return spec;
}

KvPoolKind kind_of(const AttentionLayer& layer) {
  return {.window = layer.window, .chunk = layer.chunk, .latent = layer.mla.has_value()};
}

}  // namespace

std::vector<KvPoolKind> kv_pools(const ModelSpec& spec) {
  std::vector<KvPoolKind> kinds;
  for (const DecoderLayer& layer : spec.layers) {
    const KvPoolKind kind = kind_of(layer.attention);
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
  }
  return kinds;
}

int kv_pool_of(const ModelSpec& spec, const AttentionLayer& layer) {
  const std::vector<KvPoolKind> kinds = kv_pools(spec);
  return static_cast<int>(std::find(kinds.begin(), kinds.end(), kind_of(layer)) - kinds.begin());
}

ModelSpec load_model_spec(const std::filesystem::path& model_dir) {
  if (!std::filesystem::is_directory(model_dir))
    throw Error(
        ErrorKind::kInvalid,
        "model '" + model_dir.string() +
            "' is not a directory; give one in Hugging Face layout (config.json, *.safetensors, tokenizer.json)");
  const std::filesystem::path file = model_dir / "config.json";
  const nlohmann::json json = read_json_file(file);
  const ConfigReader outer(json, file.string());
  const std::optional<ConfigReader> text = outer.object("text_config");
  ModelSpec spec = read_text_model(text ? *text : outer);
  if (text) {
    spec.prefix = "language_model.";
    spec.ignored = {"vision_model.", "multi_modal_projector."};
    spec.tied_embeddings = text->flag_or("tie_word_embeddings", outer.flag_or("tie_word_embeddings", false));
  }
  read_quantisation(outer, spec);
  add_stop_ids((text && text->has("eos_token_id") ? *text : outer).ids("eos_token_id"), spec);
  const std::vector<int32_t> bos = (text && text->has("bos_token_id") ? *text : outer).ids("bos_token_id");
  if (!bos.empty()) spec.bos_id = bos.front();
  if (const std::filesystem::path generation = model_dir / "generation_config.json";
      std::filesystem::exists(generation)) {
    const nlohmann::json generation_json = read_json_file(generation);
    add_stop_ids(ConfigReader(generation_json, generation.string()).ids("eos_token_id"), spec);
  }
  return spec;
}

}  // namespace shoal
