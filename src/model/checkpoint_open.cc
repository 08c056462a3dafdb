// SPDX-License-Identifier: Apache-2.0
// Checkpoint::open: which files of a model directory hold its tensors.
#include <algorithm>
#include <set>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"
#include "model/checkpoint.h"
#include "model/checkpoint_reader.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kSingle = "model.safetensors";
constexpr size_t kMaxProblems = 20;

using WeightMap = std::map<std::string, std::string>;  // tensor -> shard

// Problems are listed up to a bound: a wrong index may name a hundred thousand tensors.
class BoundedProblems {
 public:
  void add(std::string problem) {
    if (++count_ <= kMaxProblems) problems_.add(std::move(problem));
  }
  void throw_if_any(const std::string& summary) {
    if (count_ > kMaxProblems) problems_.add("and " + std::to_string(count_ - kMaxProblems) + " more");
    problems_.throw_if_any(summary);
  }

 private:
  Problems problems_;
  size_t count_ = 0;
};

// An index comes from the same stranger as the weights: its shards stay below the directory. (A link there may lead
// elsewhere, as in the cache of Hugging Face's hub.)
bool stays_below(const fs::path& shard) {
  if (shard.empty() || shard.is_absolute()) return false;
  return std::none_of(shard.begin(), shard.end(), [](const fs::path& part) { return part == ".."; });
}

WeightMap read_index(const fs::path& path) {
  const nlohmann::json index = read_json_file(path, {.bytes = int64_t{128} << 20, .unique_keys = true});
  const std::string file = path.string();
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    throw Error(ErrorKind::kInvalid, file + ": has no object \"weight_map\" of tensors and their files");
  WeightMap map;
  BoundedProblems problems;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    const std::string quoted = "tensor '" + printable(tensor) + "': ";
    if (!shard.is_string()) {
      problems.add(quoted + "expected the name of a file");
    } else if (const std::string& name = shard.get_ref<const std::string&>(); !stays_below(name)) {
      problems.add(quoted + "file \"" + printable(name) + "\" lies outside the model's directory");
    } else {
      map.emplace(tensor, name);
    }
  }
  problems.throw_if_any(file + ": bad \"weight_map\"");
  if (map.empty()) throw Error(ErrorKind::kInvalid, file + ": \"weight_map\" is empty");
  return map;
}

// Maps one shard and adds the tensors that `wanted` accepts.
template <typename Wanted>
void add_shard(CheckpointParts& parts, const fs::path& path, Wanted wanted) {
  parts.files.emplace_back(path);
  for (auto& [name, tensor] : parse_safetensors(parts.files.back().bytes(), path)) {
    if (!wanted(name)) continue;
    const auto [place, is_new] = parts.tensors.try_emplace(name, tensor);
    if (!is_new)
      throw Error(ErrorKind::kInvalid, path.string() + ": tensor '" + printable(name) + "' is also in " +
                                           place->second.file.string() + "; expected each tensor in one file");
  }
}

// The index decides where it names the same tensor of two shards; tensors it does not name are kept, so that they can
// be reported.
void add_indexed(CheckpointParts& parts, const WeightMap& map) {
  const std::string index = (parts.directory / kIndex).string();
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map) shards.insert(shard);
  BoundedProblems missing_files;
  for (const std::string& shard : shards)
    if (std::error_code error; !fs::exists(parts.directory / shard, error)) missing_files.add(printable(shard));
  missing_files.throw_if_any(index + ": names files that are not in " + parts.directory.string() +
                             "; finish the download");
  for (const std::string& shard : shards) {
    add_shard(parts, parts.directory / shard, [&](const std::string& name) {
      const auto entry = map.find(name);
      return entry == map.end() || entry->second == shard;
    });
  }
  BoundedProblems missing;
  for (const auto& [tensor, shard] : map)
    if (!parts.tensors.contains(tensor)) missing.add("tensor '" + printable(tensor) + "' in " + printable(shard));
  missing.throw_if_any(index + ": names tensors that are not in their files");
}

std::vector<fs::path> files_of(const fs::path& directory) {
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    files.push_back(entry->path());
  if (error) throw Error(ErrorKind::kInvalid, directory.string() + ": cannot list the directory: " + error.message());
  std::sort(files.begin(), files.end());
  return files;
}

void add_unindexed(CheckpointParts& parts) {
  const std::vector<fs::path> files = files_of(parts.directory);
  std::string others;
  for (const fs::path& path : files) {
    const fs::path kind = path.extension();
    if (kind == ".safetensors") add_shard(parts, path, [](const std::string&) { return true; });
    if (others.empty() && (kind == ".bin" || kind == ".gguf" || kind == ".pt" || kind == ".pth"))
      others = "; " + printable(path.filename().string()) + " is of another format, convert it to safetensors";
  }
  if (parts.files.empty())
    throw Error(ErrorKind::kInvalid, parts.directory.string() + ": no weights: looked for " + kIndex + ", " + kSingle +
                                         " and *.safetensors" + others);
}

}  // namespace

std::unique_ptr<Checkpoint> Checkpoint::open(const fs::path& model_dir, int64_t fp8_block_rows,
                                             int64_t fp8_block_columns) {
  std::error_code error;
  if (!fs::exists(model_dir, error))
    throw Error(ErrorKind::kInvalid, model_dir.string() +
                                         ": no such directory; expected a model's directory with "
                                         "config.json and *.safetensors");
  if (!fs::is_directory(model_dir, error))
    throw Error(ErrorKind::kInvalid, model_dir.string() + ": is a file, expected the model's directory");
  CheckpointParts parts{
      .directory = model_dir, .fp8_block_rows = fp8_block_rows, .fp8_block_columns = fp8_block_columns};
  if (fs::exists(model_dir / kIndex, error)) {
    add_indexed(parts, read_index(model_dir / kIndex));
  } else if (fs::exists(model_dir / kSingle, error)) {
    add_shard(parts, model_dir / kSingle, [](const std::string&) { return true; });
  } else {
    add_unindexed(parts);
  }
  return make_checkpoint(std::move(parts));
}

}  // namespace shoal
