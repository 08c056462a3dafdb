// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"
#include "base/mmap.h"
#include "model/safetensors.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMetaFile = "meta_info.json";
constexpr const char* kRecord = "record with EXPERT_STATISTIC_ITER_RANGE and EXPERT_STATISTIC_PATH";
constexpr const char* kRecordSelections = "record with EXPERT_STATISTIC_TOKEN_SELECTIONS=true as well";
constexpr int64_t kMostExperts = 1 << 16;
constexpr int64_t kMostPicks = int64_t{1} << 44;  // of one expert, layer, iteration and rank; sums stay far below 2^63

[[noreturn]] void refuse(const fs::path& path, const std::string& what) {
  throw Error(ErrorKind::kInvalid, fmt::format("{}: {}", path.string(), what));
}

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return {};
  return value;
}

// The rank of "{before}{rank}{after}".
std::optional<int64_t> rank_of_name(std::string_view name, std::string_view before, std::string_view after) {
  if (!name.starts_with(before) || !name.ends_with(after) || name.size() <= before.size() + after.size()) return {};
  return number(name.substr(before.size(), name.size() - before.size() - after.size()));
}

std::optional<int64_t> rank_of_name(std::string_view name, StatisticsFile kind) {
  if (kind == StatisticsFile::kCounts) return rank_of_name(name, "rank", ".safetensors");
  if (kind == StatisticsFile::kCooccurrence) return rank_of_name(name, "cooccurrence_rank", ".safetensors");
  const auto rank = rank_of_name(name, "token_selected_experts_rank", ".safetensors");
  return rank ? rank : rank_of_name(name, "rank", "_raw.safetensors");
}

std::string name_of_rank(StatisticsFile kind, int64_t rank) {
  if (kind == StatisticsFile::kCounts) return fmt::format("rank{}.safetensors", rank);
  if (kind == StatisticsFile::kCooccurrence) return fmt::format("cooccurrence_rank{}.safetensors", rank);
  return fmt::format("token_selected_experts_rank{}.safetensors", rank);
}

std::map<int64_t, fs::path> rank_files(const fs::path& directory, StatisticsFile kind) {
  std::error_code error;
  fs::directory_iterator entries(directory, error);
  if (error) refuse(directory, fmt::format("cannot be read ({}); give a directory of statistics", error.message()));
  std::map<int64_t, fs::path> files;
  for (const fs::directory_entry& entry : entries) {
    if (const auto rank = rank_of_name(entry.path().filename().string(), kind)) files.emplace(*rank, entry.path());
  }
  return files;
}

struct Key {
  int64_t iteration = 0;
  int64_t layer = 0;
  bool operator==(const Key&) const = default;
  bool operator<(const Key& other) const {
    return iteration != other.iteration ? iteration < other.iteration : layer < other.layer;
  }
};

std::optional<Key> parse_key(std::string_view name) {
  const size_t middle = name.find('_');
  if (middle == std::string_view::npos) return {};
  const auto iteration = number(name.substr(0, middle));
  const auto layer = number(name.substr(middle + 1));
  if (!iteration || !layer) return {};
  return Key{*iteration, *layer};
}

// One rank's file, its tensors by iteration and layer, within the range.
class RankFile {
 public:
  RankFile(fs::path path, const IterationRange& range) : path_(std::move(path)), file_(path_) {
    for (const auto& [name, tensor] : parse_safetensors(file_.bytes(), path_)) {
      const auto key = parse_key(name);
      if (!key)
        refuse(path_, fmt::format("tensor {}: must be named iteration_layer, such as 100_3", printable(name, 40)));
      if (tensor.type != StoredType::kI32 && tensor.type != StoredType::kI64)
        refuse(path_, fmt::format("tensor {} is {}, must be I32 or I64", name, tensor.type_name));
      const bool inside =
          (!range.start || key->iteration >= *range.start) && (!range.stop || key->iteration < *range.stop);
      if (inside) tensors_.emplace(*key, tensor);
    }
    check_complete(range);
  }

  const fs::path& path() const { return path_; }
  const std::map<Key, StoredTensor>& tensors() const { return tensors_; }
  const std::vector<int64_t>& layers() const { return layers_; }
  int64_t first_iteration() const { return tensors_.begin()->first.iteration; }
  int64_t iterations() const { return tensors_.rbegin()->first.iteration - first_iteration() + 1; }

  // Counts, or selected experts. Error unless the tensor has `shape`, and all values are from `least` to kMostPicks; -1 in `shape` stands for
  // any size, of the tokens.
  std::vector<int64_t> values(const Key& key, const std::vector<int64_t>& shape, int64_t least = 0) const {
    const StoredTensor& tensor = tensors_.at(key);
    const bool fits = std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end(),
                                 [](int64_t wanted, int64_t found) { return wanted < 0 || wanted == found; });
    if (!fits) {
      refuse(path_, fmt::format("tensor {}_{} is {}, must be {}; files of one directory must come from one run",
                                key.iteration, key.layer, shape_text(tensor.shape),
                                shape.front() < 0 ? fmt::format("[tokens, {}]", shape.back()) : shape_text(shape)));
    }
    const std::vector<int64_t> values =
        tensor.type == StoredType::kI32 ? widened<int32_t>(tensor) : widened<int64_t>(tensor);
    for (const int64_t value : values) {
      if (least <= value && value <= kMostPicks) continue;
      refuse(path_, fmt::format("tensor {}_{} holds {}, must be from {} to 2^44; is the file damaged?", key.iteration,
                                key.layer, value, least));
    }
    return values;
  }

 private:
  template <typename T>
  static std::vector<int64_t> widened(const StoredTensor& tensor) {
    std::vector<T> stored(tensor.data.size() / sizeof(T));
    if (!stored.empty()) std::memcpy(stored.data(), tensor.data.data(), stored.size() * sizeof(T));
    return {stored.begin(), stored.end()};
  }

  void check_complete(const IterationRange& range) {
    if (tensors_.empty()) {
      refuse(path_, range.start || range.stop
                        ? "has no iteration in the range asked for; leave iter_start and iter_stop out"
                        : "holds no statistics; " + std::string(kRecord));
    }
    for (const auto& [key, tensor] : tensors_) {
      if (key.iteration == first_iteration()) layers_.push_back(key.layer);
    }
    auto expected = tensors_.begin();
    for (int64_t i = 0; i < iterations(); ++i) {
      for (const int64_t layer : layers_) {
        const Key wanted{first_iteration() + i, layer};
        if (expected == tensors_.end() || expected->first != wanted) {
          refuse(path_,
                 fmt::format("iteration {} has no layer {}; iterations must follow each other and each have every "
                             "layer that the first has; record again, or narrow iter_start and iter_stop",
                             wanted.iteration, layer));
        }
        ++expected;
      }
    }
    if (expected != tensors_.end())
      refuse(path_, fmt::format("iteration {} has layer {}, which iteration {} lacks; record again",
                                expected->first.iteration, expected->first.layer, first_iteration()));
  }

  fs::path path_;
  MappedFile file_;
  std::map<Key, StoredTensor> tensors_;
  std::vector<int64_t> layers_;
};

void add(std::vector<int64_t>& sum, const std::vector<int64_t>& terms) {
  if (sum.empty()) sum.resize(terms.size());
  for (size_t i = 0; i < terms.size(); ++i) sum[i] += terms[i];
}

// From the first file on: what the others must agree with.
void check_alike(const RankFile& file, const ExpertStatistics& statistics) {
  const int64_t iterations = static_cast<int64_t>(statistics.counts.size());
  if (file.layers() == statistics.layers && file.first_iteration() == statistics.first_iteration &&
      file.iterations() == iterations)
    return;
  refuse(file.path(), fmt::format("has iterations {} to {} of {} layers, rank 0's file {} to {} of {}; the files must "
                                  "come from one run",
                                  file.first_iteration(), file.first_iteration() + file.iterations() - 1,
                                  file.layers().size(), statistics.first_iteration,
                                  statistics.first_iteration + iterations - 1, statistics.layers.size()));
}

void check_ranks(const fs::path& directory, const std::map<int64_t, fs::path>& files) {
  if (files.empty()) refuse(directory, fmt::format("holds no rank0.safetensors; {}", kRecord));
  const int64_t last = files.rbegin()->first;
  if (last + 1 == static_cast<int64_t>(files.size())) return;
  int64_t missing = 0;
  while (files.contains(missing)) ++missing;
  refuse(directory, fmt::format("rank{}.safetensors is missing, though there is rank{}; add it, or remove files of "
                                "another run",
                                missing, last));
}

void add_pairs(const TokenSelections& selections, int64_t experts, std::vector<int64_t>& pairs) {
  pairs.resize(experts * experts);
  for (size_t first = 0; first < selections.experts.size(); first += selections.top_k) {
    const auto token = selections.experts.subspan(first, selections.top_k);
    for (const int64_t a : token) {
      for (const int64_t b : token) pairs[a * experts + b] += a >= 0 && b >= 0 && a != b ? 1 : 0;
    }
  }
}

// Writes beside the file, then gives it its name.
class NewFile {
 public:
  explicit NewFile(fs::path path) : path_(std::move(path)), temporary_(path_.string() + ".writing") {
    out_.open(temporary_, std::ios::binary | std::ios::trunc);
    if (!out_) refuse(path_, "cannot be written; give a directory that can");
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    std::error_code ignored;
    if (out_.is_open()) fs::remove(temporary_, ignored);
  }
  void write(const void* data, size_t bytes) {
    out_.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  }
  void commit() {
    out_.flush();
    if (!out_) throw std::runtime_error(fmt::format("{} could not be written; is the disk full?", temporary_.string()));
    out_.close();
    fs::rename(temporary_, path_);
  }

 private:
  fs::path path_;
  fs::path temporary_;
  std::ofstream out_;
};

}  // namespace

std::vector<int64_t> ExpertStatistics::total(size_t layer_index) const {
  std::vector<int64_t> sum;
  for (const auto& iteration : counts) add(sum, iteration[layer_index]);
  return sum;
}

StatisticsMeta read_statistics_meta(const fs::path& directory) {
  const fs::path path = directory / kMetaFile;
  if (!fs::exists(path)) refuse(directory, fmt::format("holds no {}; {}", kMetaFile, kRecord));
  const nlohmann::json json = read_json_file(path);
  const auto field = [&](const char* name) {
    const auto at = json.is_object() ? json.find(name) : json.end();
    if (!json.is_object() || at == json.end() || !at->is_number_integer() || *at < 1 || *at > kMostExperts)
      refuse(path, fmt::format("\"{}\" must be a whole number from 1 to {}", name, kMostExperts));
    return at->get<int64_t>();
  };
  return {.num_experts = field("num_experts"), .num_experts_per_token = field("num_experts_per_token")};
}

ExpertStatistics read_expert_statistics(const fs::path& directory, const IterationRange& range) {
  const std::map<int64_t, fs::path> files = rank_files(directory, StatisticsFile::kCounts);
  check_ranks(directory, files);
  ExpertStatistics statistics{.meta = read_statistics_meta(directory),
                              .rank_files = static_cast<int64_t>(files.size())};
  for (const auto& [rank, path] : files) {
    const RankFile file(path, range);
    if (rank == 0) {
      statistics.layers = file.layers();
      statistics.first_iteration = file.first_iteration();
      const std::vector<int64_t>& shape = file.tensors().begin()->second.shape;
      statistics.counters = shape.size() == 1 ? shape[0] : 0;
      if (statistics.counters < statistics.meta.num_experts)
        refuse(path,
               fmt::format("tensors are {}, must be [num_experts {}]", shape_text(shape), statistics.meta.num_experts));
      statistics.counts.assign(file.iterations(), std::vector<std::vector<int64_t>>(file.layers().size()));
    }
    check_alike(file, statistics);
    for (const auto& [key, tensor] : file.tensors()) {
      const auto layer = std::lower_bound(statistics.layers.begin(), statistics.layers.end(), key.layer);
      add(statistics.counts[key.iteration - statistics.first_iteration][layer - statistics.layers.begin()],
          file.values(key, {statistics.counters}));
    }
  }
  return statistics;
}

Cooccurrence read_cooccurrence(const fs::path& directory, const IterationRange& range) {
  const int64_t experts = read_statistics_meta(directory).num_experts;
  Cooccurrence sums;
  const std::map<int64_t, fs::path> files = rank_files(directory, StatisticsFile::kCooccurrence);
  for (const auto& [rank, path] : files) {
    const RankFile file(path, range);
    for (const auto& [key, tensor] : file.tensors()) add(sums[key.layer], file.values(key, {experts, experts}));
  }
  if (files.empty()) {
    visit_token_selections(directory, range, [&](const TokenSelections& selections) {
      add_pairs(selections, experts, sums[selections.layer]);
    });
  }
  return sums;
}

void visit_token_selections(const fs::path& directory, const IterationRange& range,
                            const std::function<void(const TokenSelections&)>& visit) {
  const StatisticsMeta meta = read_statistics_meta(directory);
  const std::map<int64_t, fs::path> files = rank_files(directory, StatisticsFile::kTokenSelections);
  if (files.empty())
    refuse(directory, fmt::format("holds no token_selected_experts_rank0.safetensors; {}", kRecordSelections));
  for (const auto& [rank, path] : files) {
    const RankFile file(path, range);
    for (const auto& [key, tensor] : file.tensors()) {
      // -1 stands for a padded token.
      const std::vector<int64_t> experts = file.values(key, {-1, meta.num_experts_per_token}, -1);
      const auto most = std::max_element(experts.begin(), experts.end());
      if (most != experts.end() && *most >= meta.num_experts) {
        refuse(path, fmt::format("tensor {}_{} selects expert {}, must be below num_experts {}", key.iteration,
                                 key.layer, *most, meta.num_experts));
      }
      visit({rank, key.iteration, key.layer, meta.num_experts_per_token, experts});
    }
  }
}

void start_statistics(const fs::path& directory, const StatisticsMeta& meta, int64_t ranks) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) refuse(directory, fmt::format("cannot be made ({}); give a place that can", error.message()));
  for (const StatisticsFile kind :
       {StatisticsFile::kCounts, StatisticsFile::kCooccurrence, StatisticsFile::kTokenSelections}) {
    const std::map<int64_t, fs::path> files = rank_files(directory, kind);
    if (!files.empty() && files.rbegin()->first >= ranks) {
      refuse(directory,
             fmt::format("holds {} of an earlier run, but this one has {} ranks; remove it or give another directory",
                         files.rbegin()->second.filename().string(), ranks));
    }
  }
  // This run may write none of these, and an earlier run's would pass for its own.
  for (const StatisticsFile kind : {StatisticsFile::kCooccurrence, StatisticsFile::kTokenSelections})
    for (const auto& [rank, path] : rank_files(directory, kind)) fs::remove(path, error);
  const nlohmann::ordered_json json = {{"num_experts", meta.num_experts},
                                       {"num_experts_per_token", meta.num_experts_per_token}};
  NewFile file(directory / kMetaFile);
  const std::string text = json.dump() + "\n";
  file.write(text.data(), text.size());
  file.commit();
}

void write_statistics(const fs::path& directory, StatisticsFile kind, int64_t rank,
                      const std::vector<StatisticsTensor>& tensors) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  size_t offset = 0;
  for (const StatisticsTensor& tensor : tensors) {
    const size_t bytes = tensor.values.size() * sizeof(int64_t);
    header[fmt::format("{}_{}", tensor.iteration, tensor.layer)] = {
        {"dtype", "I64"}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  NewFile file(directory / name_of_rank(kind, rank));
  file.write(&length, sizeof length);
  file.write(text.data(), text.size());
  for (const StatisticsTensor& tensor : tensors)
    file.write(tensor.values.data(), tensor.values.size() * sizeof(int64_t));
  file.commit();
}

}  // namespace shoal
