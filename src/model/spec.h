// SPDX-License-Identifier: Apache-2.0
// ModelSpec: a model as plain data, read from config.json by one short function per family (model/families/). The
// generic decoder (model/decoder.h) is built from it; nothing below this knows family names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "backend/specs.h"
#include "cache/kv_pools.h"

namespace shoal {

enum class RopeType : uint8_t { kDefault, kLinear, kDynamic, kYarn, kLlama3 };

struct RopeSpec {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  int64_t rotary_dim = 0;
  bool interleaved = false;
  double factor = 1.0;
  int64_t original_max_positions = 0;
  // yarn
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
  double attention_factor = 1.0;  // multiplies cos and sin
  // llama3
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
};

enum class QkNorm : uint8_t {
  kNone,
  kWeightedBeforeRope,   // Qwen3, GLM-4: RMS norm per head with a learned weight
  kWeightlessAfterRope,  // Llama-4: on rope layers only
};

struct MlaSpec {
  int64_t q_lora_rank = 0;  // 0: q_proj without a down-projection
  int64_t kv_lora_rank = 0;
  int64_t nope_dim = 0;
  int64_t rope_dim = 0;
};

struct AttentionLayer {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;  // of q and k
  int64_t v_dim = 0;
  float scale = 1.0f;
  std::optional<MlaSpec> mla;
  bool qkv_bias = false;
  bool o_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  bool rope = true;
  bool sinks = false;
  int64_t window = 0;
  int64_t chunk = 0;
  // Llama-4 on layers without rope: q *= 1 + temperature_scale * ln(1 + floor((position + 1) / temperature_floor)); 0:
  // off
  float temperature_scale = 0.0f;
  float temperature_floor = 1.0f;
};

// How a checkpoint stores routed experts.
enum class ExpertStorage : uint8_t {
  kPerExpert,      // experts.N.{gate,up,down}_proj.weight [out, in]
  kStackedHalves,  // experts.gate_up_proj [E, in, out], gate and up as halves (Llama-4)
  kStackedPairs,   // experts.gate_up_proj [E, in, out] (or MXFP4 blocks), gate and up as alternating columns, with
                   // biases (gpt-oss)
};

struct MoeLayer {
  int64_t experts = 0;
  int64_t top_k = 1;
  int64_t ffn = 0;
  int64_t shared_ffn = 0;  // 0: none
  RouterSpec router;       // correction_bias is filled when loaded
  bool correction_bias = false;
  bool router_bias = false;
  bool expert_bias = false;
  bool weight_on_input = false;
  GateSpec gate;
  ExpertStorage storage = ExpertStorage::kPerExpert;
  // Tensor names below the layer's prefix.
  std::string block = "mlp";                   // "block_sparse_moe" (Mixtral), "feed_forward" (Llama-4)
  std::string router_name = "gate";            // "router"
  std::string shared_name = "shared_experts";  // "shared_expert"
  std::string gate_proj = "gate_proj", up_proj = "up_proj", down_proj = "down_proj";  // Mixtral: w1, w3, w2
};

struct DenseFfn {
  int64_t ffn = 0;
  std::string block = "mlp";
};

struct DecoderLayer {
  AttentionLayer attention;
  std::optional<MoeLayer> moe;  // else `dense`
  DenseFfn dense;
};

struct ModelSpec {
  std::string family;  // model_type
  int64_t hidden = 0;
  int64_t vocab = 0;
  int64_t max_positions = 0;
  float norm_epsilon = 1e-6f;
  bool tied_embeddings = false;
  RopeSpec rope;
  std::vector<DecoderLayer> layers;
  std::string prefix;                // "language_model." inside a multimodal checkpoint
  std::vector<std::string> ignored;  // prefixes of tensors outside the text model
  std::vector<int32_t> stop_ids;     // end tokens of config.json and generation_config.json
  std::optional<int32_t> bos_id;
  bool fp8_weights = false;                               // FP8 E4M3 with block scales
  int64_t fp8_block_rows = 128, fp8_block_columns = 128;  // quantization_config.weight_block_size

  bool has_moe() const {
    for (const DecoderLayer& layer : layers)
      if (layer.moe) return true;
    return false;
  }
};

// The kinds of the model's layers, in the order of their first layer: a pool of KV pages each, the same on every rank and stage.
std::vector<KvPoolKind> kv_pools(const ModelSpec& spec);
// The layer's place among them.
int kv_pool_of(const ModelSpec& spec, const AttentionLayer& layer);

// Reads config.json (old and new spellings) and generation_config.json. Error: the file, key, value and rule.
ModelSpec load_model_spec(const std::filesystem::path& model_dir);

}  // namespace shoal
