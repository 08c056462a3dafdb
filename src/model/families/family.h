// SPDX-License-Identifier: Apache-2.0
// One function per model family: config.json -> ModelSpec. The table of them is in spec.cc.
#pragma once

#include "model/config_reader.h"
#include "model/spec.h"

namespace shoal {

// Sizes, norm, rope and end tokens that all families spell alike; `rotary_dim` and `interleaved` are the caller's.
ModelSpec common_spec(const ConfigReader& config, int64_t rotary_dim, bool interleaved);
// heads, kv_heads, head_dim, scale = head_dim^-1/2 of grouped-query attention; head_dim may be absent or null (hidden /
// heads).
AttentionLayer common_attention(const ConfigReader& config);
// Old (rope_theta + rope_scaling) and new (rope_parameters) spelling.
RopeSpec read_rope(const ConfigReader& config, int64_t rotary_dim, bool interleaved);
// layer_types[layer] == `kind`; absent: `otherwise`.
bool layer_type_is(const ConfigReader& config, int64_t layer, const std::string& kind, bool otherwise);
// YaRN's 0.1 * mscale * ln(factor) + 1 (Peng et al. 2023, section 3.4); 1 for factor <= 1.
double yarn_mscale(double factor, double mscale);

ModelSpec llama_spec(const ConfigReader& config);
ModelSpec qwen2_spec(const ConfigReader& config);
ModelSpec qwen3_spec(const ConfigReader& config);
ModelSpec qwen3_moe_spec(const ConfigReader& config);
ModelSpec mixtral_spec(const ConfigReader& config);
ModelSpec deepseek_v2_spec(const ConfigReader& config);
ModelSpec deepseek_v3_spec(const ConfigReader& config);
ModelSpec llama4_spec(const ConfigReader& config);
ModelSpec gpt_oss_spec(const ConfigReader& config);
ModelSpec glm4_moe_spec(const ConfigReader& config);

}  // namespace shoal
