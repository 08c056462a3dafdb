// SPDX-License-Identifier: Apache-2.0
#include "engine/engine_config.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"
#include "base/yaml.h"
#include "engine/engine_config_reference.h"
#include "engine/expert_recording.h"

namespace shoal {
namespace {

// A hostile file could hold a hundred thousand of them.
constexpr size_t kMostProblems = 40;
constexpr const char* kVariablePrefix = "SHOAL_";

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string kind_text(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "null";
    case YamlNode::Kind::kScalar:
      return "'" + printable(node.text) + "'";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
  }
  return "";
}

class Loader {
 public:
  void read_file(const std::filesystem::path& path) {
    file_ = path.string();
    const YamlNode root = read_yaml_file(path);
    if (root.kind == YamlNode::Kind::kMap) {
      read_map(root, "");
    } else if (root.kind != YamlNode::Kind::kNull) {
      problem(file_ + " is " + kind_text(root) + ", must be a map of keys, such as tensor_parallel_size: 4");
    }
    if (!ignored_.empty()) {
      config_.notices.push_back(
          file_ + ": keys without meaning here are ignored: " + listed({ignored_.begin(), ignored_.end()}));
    }
  }

  void read_environment(const std::vector<std::pair<std::string, std::string>>& environment) {
    std::map<const Option*, std::pair<std::string, std::string>> seen;
    for (const auto& [variable, value] : environment) {
      if (!variable.starts_with(kVariablePrefix) || value.empty()) continue;
      const Option* option = table_.find_spelling(variable.substr(std::string_view(kVariablePrefix).size()));
      if (option == nullptr) {
        problem("unknown variable " + printable(variable) + "; the nearest known is " +
                table_.nearest_variable(variable));
        continue;
      }
      const auto [first, fresh] = seen.try_emplace(option, variable, value);
      if (!fresh && first->second.second != value) {
        problem(option->name + " is set differently by " + first->second.first + " and " + variable +
                "; unset one of them");
        continue;
      }
      set(*option, assign(*option, value, variable), variable);
    }
  }

  void read_flags(const std::vector<FlagValue>& flags) {
    for (const FlagValue& flag : flags) {
      const Option* option = table_.find_path(flag.option);
      CHECK(option != nullptr);
      set(*option, assign(*option, flag.value, flag.spelling), flag.spelling);
    }
  }

  EngineConfig finish() {
    read_load_balancer_file();
    check_statistic();
    check_context();
    check_attention();
    check_grid();
    check_partition();
    if (problems_.size() > kMostProblems) {
      const size_t more = problems_.size() - kMostProblems;
      problems_.resize(kMostProblems);
      problems_.push_back("and " + std::to_string(more) + " more");
    }
    Problems all;
    all.append(problems_);
    all.throw_if_any("the configuration cannot be used");
    return config_;
  }

 private:
  void problem(std::string text) { problems_.push_back(std::move(text)); }
  std::string at(int line) const { return file_ + ":" + std::to_string(line); }

  void set(const Option& option, std::optional<std::string> wrong, const std::string& origin) {
    if (wrong) {
      failed_.insert(option.name);
      problem(*wrong);
    } else {
      config_.origins[option.name] = origin;
    }
  }

  // The options' names for their YAML aliases; other paths as they are.
  std::string resolved(const std::string& path) const {
    const Option* option = table_.find_path(path);
    return option ? option->name : path;
  }

  void read_map(const YamlNode& map, const std::string& section) {
    std::map<std::string, std::vector<const YamlEntry*>> by_path;
    for (const YamlEntry& entry : map.entries) by_path[resolved(section + entry.key)].push_back(&entry);
    for (const YamlEntry& entry : map.entries) {
      const std::string path = resolved(section + entry.key);
      const std::vector<const YamlEntry*>& all = by_path.at(path);
      if (all.back() != &entry) continue;
      if (all.size() > 1) warn_repeated(path, all);
      read_entry(path, entry);
    }
  }

  void warn_repeated(const std::string& path, const std::vector<const YamlEntry*>& all) {
    if (config_.notices.size() >= kMostProblems) return;
    std::string lines;
    for (size_t i = 0; i + 1 < all.size(); ++i) {
      lines += (i ? ", " : "") + std::to_string(all[i]->line);
    }
    config_.notices.push_back(file_ + ": " + printable(path) + " is given on lines " + lines + " and " +
                              std::to_string(all.back()->line) + "; the last one counts");
  }

  void read_entry(const std::string& path, const YamlEntry& entry) {
    if (const Option* option = table_.find_path(path)) return read_option(*option, entry);
    if (const ReferenceKey* key = find_reference_key(path)) return read_reference(*key, path, entry);
    if (table_.is_section(path) || is_reference_section(path)) return read_section(path, entry);
    if (problems_.size() > kMostProblems) return problem("");  // only counted: the search below is not free
    problem("unknown key " + printable(path) + " (" + at(entry.line) + "); the nearest known is " +
            table_.nearest_path(path, reference_paths()));
  }

  void read_section(const std::string& path, const YamlEntry& entry) {
    if (entry.value.empty()) return;
    if (entry.value.kind == YamlNode::Kind::kMap) return read_map(entry.value, path + ".");
    problem(path + " (" + at(entry.line) + ") is " + kind_text(entry.value) + ", must be a map of keys");
  }

  void read_option(const Option& option, const YamlEntry& entry) {
    const YamlNode& value = entry.value;
    const std::string origin = at(entry.line);
    if (value.kind == YamlNode::Kind::kNull) return;
    if (option.name == kLoadBalancerOption && value.kind == YamlNode::Kind::kMap) return read_load_balancer_map(value);
    if (value.kind == YamlNode::Kind::kScalar) return set(option, assign(option, value.text, origin), origin);
    const bool plain_list = value.kind == YamlNode::Kind::kList &&
                            std::all_of(value.items.begin(), value.items.end(),
                                        [](const YamlNode& item) { return item.kind == YamlNode::Kind::kScalar; });
    if (!plain_list) {
      const std::string nested = value.kind == YamlNode::Kind::kList ? "a list of lists or maps" : "a map";
      return set(option, option.name + " (" + origin + ") is " + nested + ", must be " + rule_text(option), origin);
    }
    std::vector<std::string> items;
    for (const YamlNode& item : value.items) items.push_back(item.text);
    set(option, assign(option, items, origin), origin);
  }

  void read_load_balancer_map(const YamlNode& map) {
    config_.moe.load_balancer = parse_load_balancer(map, file_, problems_);
    take_notices();
  }

  // A file given by a flag or a variable goes before keys given inline.
  void read_load_balancer_file() {
    const std::string& path = config_.moe.load_balancer_file;
    if (path.empty()) return;
    try {
      config_.moe.load_balancer = read_load_balancer(path);
      take_notices();
    } catch (const Error& error) {
      problem(std::string(kLoadBalancerOption) + ": " + error.what() + set_by(kLoadBalancerOption));
    }
  }

  void take_notices() {
    for (std::string& notice : std::exchange(config_.moe.load_balancer->notices, {}))
      config_.notices.push_back(std::move(notice));
  }

  void read_reference(const ReferenceKey& key, const std::string& path, const YamlEntry& entry) {
    if (key.feature.empty()) {
      if (ignored_.size() < kMostProblems) ignored_.insert(printable(path));
      return;
    }
    const YamlNode& value = entry.value;
    if (value.empty()) return;
    if (value.kind == YamlNode::Kind::kScalar && key.allows(value.text)) return;
    const std::string remedy = key.harmless.empty()
                                   ? "leave the key out"
                                   : "nearest: " + std::string(key.harmless.substr(key.harmless.rfind(' ') + 1));
    problem(path + " is " + kind_text(value) + " (" + at(entry.line) + "): " + std::string(key.feature) +
            ": not built yet; " + remedy);
  }

  // " (tensor_parallel_size: a.yaml:1, moe_expert_parallel_size: --ep)": where the options named in `text` were set.
  std::string set_by(const std::string& text) const {
    std::vector<std::string> places;
    for (const auto& [option, origin] : config_.origins) {
      if (text.find(option) != std::string::npos) places.push_back(option + ": " + origin);
    }
    return places.empty() ? "" : " (" + listed(places) + ")";
  }

  void rule_problem(const std::string& text) {
    // What follows from a value that was refused already would only confuse.
    const bool follows = std::any_of(failed_.begin(), failed_.end(),
                                     [&](const std::string& name) { return text.find(name) != std::string::npos; });
    if (!follows) problem(text + set_by(text));
  }

  void check_statistic() {
    const std::string& range = config_.expert_statistic.iter_range;
    if (range.empty()) return;
    try {
      parse_step_range(range);
    } catch (const Error& error) {
      rule_problem(std::string("expert_statistic.iter_range: ") + error.what());
    }
  }

  void check_context() {
    const int64_t cache = config_.kv_cache.tokens_per_block;
    const int64_t block = config_.cp.tokens_per_block.value_or(cache);
    if (config_.context_parallel_size == 1 || block == cache) return;
    rule_problem("cp_config.tokens_per_block is " + std::to_string(block) +
                 ", must equal kv_cache_config.tokens_per_block " + std::to_string(cache) +
                 "; nearest: " + std::to_string(cache) + ", or leave it out");
  }

  void check_attention() {
    const auto size = config_.attention_dp_size;
    if (!config_.enable_attention_dp || !size || *size == config_.tensor_parallel_size) return;
    rule_problem("attention_dp_size is " + std::to_string(*size) +
                 ", but enable_attention_dp: true means tensor_parallel_size " +
                 std::to_string(config_.tensor_parallel_size) + "; give one of the two");
  }

  void check_grid() {
    GridSizes sizes = config_.grid();
    const int64_t moe_world = config_.tensor_parallel_size * config_.context_parallel_size;
    const auto& moe_tp = config_.moe_tensor_parallel_size;
    const auto& moe_ep = config_.moe_expert_parallel_size;
    const auto& given = moe_tp ? moe_tp : moe_ep;
    if (moe_tp.has_value() != moe_ep.has_value() && moe_world % *given != 0) {
      std::string nearest;
      for (const int64_t d : nearest_divisors(moe_world, *given))
        nearest += (nearest.empty() ? "" : " or ") + std::to_string(d);
      const std::string rule = config_.context_parallel_size > 1 ? " * context_parallel_size = " : " = ";
      rule_problem(std::string(moe_tp ? "moe_tensor_parallel_size" : "moe_expert_parallel_size") + " is " +
                   std::to_string(*given) + ", must divide tensor_parallel_size" + rule + std::to_string(moe_world) +
                   "; nearest: " + nearest);
      sizes.moe_tensor = static_cast<int>(std::min<int64_t>(moe_world, kMaxRanks));
      sizes.moe_expert = 1;
    }
    for (const std::string& text : grid_problems(sizes)) rule_problem(text);
  }

  void check_partition() {
    const auto& partition = config_.pp_partition;
    if (partition.empty() || static_cast<int64_t>(partition.size()) == config_.pipeline_parallel_size) return;
    rule_problem("pp_partition has " + std::to_string(partition.size()) +
                 " entries, must have one for each stage: pipeline_parallel_size is " +
                 std::to_string(config_.pipeline_parallel_size));
  }

  EngineConfig config_;
  OptionTable table_ = engine_options(config_);
  std::string file_;
  std::set<std::string> ignored_;
  std::set<std::string> failed_;  // options with a refused value
  std::vector<std::string> problems_;
};

}  // namespace

ContextSchemes CpConfig::schemes() const {
  const auto scheme = [](const std::string& word) {
    const std::string name = canonical_spelling(word);
    if (name == "ulysses") return ContextScheme::kUlysses;
    return name == "ring" ? ContextScheme::kRing : ContextScheme::kHelix;
  };
  const ContextScheme decode = scheme(cp_type);
  const ContextScheme with_type = decode == ContextScheme::kHelix ? ContextScheme::kRing : decode;
  return {.prefill = prefill_type.empty() ? with_type : scheme(prefill_type), .decode = decode};
}

GridSizes EngineConfig::grid() const {
  const int64_t moe_world = tensor_parallel_size * context_parallel_size;
  int64_t moe_tp = moe_tensor_parallel_size.value_or(0);
  int64_t moe_ep = moe_expert_parallel_size.value_or(moe_tp ? std::max<int64_t>(moe_world / moe_tp, 1) : 1);
  if (!moe_tp) moe_tp = std::max<int64_t>(moe_world / moe_ep, 1);
  const int64_t attention_data = attention_dp_size.value_or(enable_attention_dp ? tensor_parallel_size : 1);
  // Bounded by the rows, so that each fits an int (a product just above the bound still does).
  const auto size = [](int64_t value) { return static_cast<int>(std::min<int64_t>(value, kMaxRanks + 1)); };
  return {.data = size(data_parallel_size),
          .pipeline = size(pipeline_parallel_size),
          .context = size(context_parallel_size),
          .tensor = size(tensor_parallel_size),
          .attention_data = size(attention_data),
          .moe_tensor = size(moe_tp),
          .moe_expert = size(moe_ep)};
}

EngineConfig load_engine_config(const std::optional<std::filesystem::path>& file,
                                const std::vector<std::pair<std::string, std::string>>& environment,
                                const std::vector<FlagValue>& flags) {
  Loader loader;
  if (file) loader.read_file(*file);
  loader.read_environment(environment);
  loader.read_flags(flags);
  return loader.finish();
}

}  // namespace shoal
