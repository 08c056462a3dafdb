// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "model/families/family.h"

namespace shoal {

double yarn_mscale(double factor, double mscale) { return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

namespace {

RopeType rope_type(const ConfigReader& rope) {
  const std::string type = rope.text_or("rope_type", rope.text_or("type", "default"));
  if (type == "default") return RopeType::kDefault;
  if (type == "linear") return RopeType::kLinear;
  if (type == "dynamic") return RopeType::kDynamic;
  if (type == "yarn") return RopeType::kYarn;
  if (type == "llama3") return RopeType::kLlama3;
  rope.fail(rope.has("rope_type") ? "rope_type" : "type", "default, linear, dynamic, yarn or llama3");
}

// YaRN's temperature on the logits, as a factor on cos and sin: given, or from mscale and mscale_all_dim (DeepSeek), or
// 0.1 ln(s) + 1.
double yarn_attention_factor(const ConfigReader& rope, double factor) {
  if (rope.has("attention_factor")) return rope.number("attention_factor");
  const double mscale = rope.number_or("mscale", 0.0), mscale_all_dim = rope.number_or("mscale_all_dim", 0.0);
  if (mscale != 0.0 && mscale_all_dim != 0.0) return yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim);
  return yarn_mscale(factor, 1.0);
}

void read_scaling(const ConfigReader& scaling, int64_t max_positions, RopeSpec& rope) {
  rope.type = rope_type(scaling);
  rope.original_max_positions = scaling.size_or("original_max_position_embeddings", max_positions);
  if (rope.type == RopeType::kDefault) return;
  rope.factor = scaling.number("factor");
  if (rope.factor < 1.0) scaling.fail("factor", "at least 1");
  if (rope.type == RopeType::kYarn) {
    rope.beta_fast = scaling.number_or("beta_fast", 32.0);
    rope.beta_slow = scaling.number_or("beta_slow", 1.0);
    rope.truncate = scaling.flag_or("truncate", true);
    rope.attention_factor = yarn_attention_factor(scaling, rope.factor);
  }
  if (rope.type == RopeType::kLlama3) {
    rope.low_freq_factor = scaling.number("low_freq_factor");
    rope.high_freq_factor = scaling.number("high_freq_factor");
    if (rope.high_freq_factor <= rope.low_freq_factor) scaling.fail("high_freq_factor", "greater than low_freq_factor");
  }
}

}  // namespace

RopeSpec read_rope(const ConfigReader& config, int64_t rotary_dim, bool interleaved) {
  RopeSpec rope;
  rope.rotary_dim = rotary_dim;
  rope.interleaved = interleaved;
  const int64_t max_positions = config.size("max_position_embeddings");
  rope.original_max_positions = max_positions;
  const std::optional<ConfigReader> parameters = config.object("rope_parameters");
  const std::optional<ConfigReader> scaling = parameters ? parameters : config.object("rope_scaling");
  rope.theta = parameters && parameters->has("rope_theta") ? parameters->number("rope_theta")
                                                           : config.number_or("rope_theta", 10000.0);
  if (rope.theta <= 0.0) config.fail("rope_theta", "positive");
  if (scaling) read_scaling(*scaling, max_positions, rope);
  return rope;
}

ModelSpec common_spec(const ConfigReader& config, int64_t rotary_dim, bool interleaved) {
  ModelSpec spec;
  config.require("hidden_act", "silu");
  spec.hidden = config.size("hidden_size");
  spec.vocab = config.size("vocab_size");
  spec.max_positions = config.size("max_position_embeddings");
  spec.norm_epsilon = static_cast<float>(config.number_or("rms_norm_eps", 1e-6));
  spec.tied_embeddings = config.flag_or("tie_word_embeddings", false);
  spec.rope = read_rope(config, rotary_dim, interleaved);
  // These stretch what max_position_embeddings counts; the others' configs count the stretched length.
  if (spec.rope.type == RopeType::kDynamic || spec.rope.type == RopeType::kLinear)
    spec.max_positions = static_cast<int64_t>(static_cast<double>(spec.max_positions) * spec.rope.factor);
  spec.layers.resize(config.size("num_hidden_layers"));
  return spec;
}

AttentionLayer common_attention(const ConfigReader& config) {
  AttentionLayer attention;
  attention.heads = config.size("num_attention_heads");
  attention.kv_heads = config.size_or("num_key_value_heads", attention.heads);
  attention.head_dim = config.size_or("head_dim", config.size("hidden_size") / attention.heads);
  attention.v_dim = attention.head_dim;
  if (attention.heads % attention.kv_heads != 0)
    config.fail("num_key_value_heads", "a divisor of num_attention_heads, " + std::to_string(attention.heads));
  if (attention.head_dim % 2 != 0) config.fail("head_dim", "even");
  attention.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(attention.head_dim)));
  return attention;
}

bool layer_type_is(const ConfigReader& config, int64_t layer, const std::string& kind, bool otherwise) {
  const std::vector<std::string> types = config.texts_or("layer_types", {});
  if (types.empty()) return otherwise;
  if (layer >= static_cast<int64_t>(types.size())) config.fail("layer_types", "as long as num_hidden_layers");
  return types[layer] == kind;
}

}  // namespace shoal
