// SPDX-License-Identifier: Apache-2.0
// Loading a BF16 checkpoint of the dense shape from the page cache: reading, packing and first touch of the
// memory, by all cores. `of_copy` is the median of the time to copy the mapped file once into fresh memory, with the same threads and just
// before, over the time to load.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "backend/cpu/allocator.h"
#include "backend/factory.h"
#include "base/mmap.h"
#include "model/checkpoint.h"
#include "model/model.h"
#include "model/spec.h"
#include "shapes.h"
#include "timing.h"

namespace shoal {
namespace {

constexpr int kRounds = 7;

struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
};

std::vector<NamedShape> weights_of(const bench::ModelShape& s) {
  const int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  std::vector<NamedShape> weights = {{"model.embed_tokens.weight", {s.vocab, s.hidden}},
                                     {"lm_head.weight", {s.vocab, s.hidden}},
                                     {"model.norm.weight", {s.hidden}}};
  for (int64_t layer = 0; layer < s.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const std::vector<NamedShape> own = {{"input_layernorm", {s.hidden}},      {"post_attention_layernorm", {s.hidden}},
                                         {"self_attn.q_norm", {s.head_dim}},   {"self_attn.k_norm", {s.head_dim}},
                                         {"self_attn.q_proj", {q, s.hidden}},  {"self_attn.k_proj", {kv, s.hidden}},
                                         {"self_attn.v_proj", {kv, s.hidden}}, {"self_attn.o_proj", {s.hidden, q}},
                                         {"mlp.gate_proj", {s.ffn, s.hidden}}, {"mlp.up_proj", {s.ffn, s.hidden}},
                                         {"mlp.down_proj", {s.hidden, s.ffn}}};
    for (const NamedShape& weight : own) weights.push_back({prefix + weight.name + ".weight", weight.shape});
  }
  return weights;
}

void write_checkpoint(const std::filesystem::path& path, const bench::ModelShape& shape) {
  nlohmann::ordered_json header;
  int64_t bytes = 0;
  for (const NamedShape& weight : weights_of(shape)) {
    int64_t size = 2;
    for (const int64_t n : weight.shape) size *= n;
    header[weight.name] = {{"dtype", "BF16"}, {"shape", weight.shape}, {"data_offsets", {bytes, bytes + size}}};
    bytes += size;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), sizeof length);
  file << text;
  const std::vector<uint16_t> ones(size_t{1} << 20, 0x3f80);
  for (int64_t left = bytes; left > 0;) {
    const int64_t part = std::min<int64_t>(left, static_cast<int64_t>(2 * ones.size()));
    file.write(reinterpret_cast<const char*>(ones.data()), part);
    left -= part;
  }
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
  ::sync();  // pages still to be written back are slower to map
}

double copy_seconds(const std::filesystem::path& path, int threads) {
  constexpr size_t kPiece = size_t{1} << 20;
  const double start = bench::seconds_now();
  const MappedFile file(path);
  const auto bytes = file.bytes();
  const std::shared_ptr<std::byte> memory = Arena().allocate(bytes.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t at = next.fetch_add(kPiece); at < bytes.size(); at = next.fetch_add(kPiece))
      std::memcpy(memory.get() + at, bytes.data() + at, std::min(kPiece, bytes.size() - at));
  };
  {
    std::vector<std::jthread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
    work();
  }
  return bench::seconds_now() - start;
}

void load_bf16(benchmark::State& state) {
  const bench::ModelShape& shape = bench::dense_shape();
  const bench::ShapeDirectory directory(shape);
  const std::filesystem::path file = directory.path() / "model.safetensors";
  write_checkpoint(file, shape);
  const int threads = static_cast<int>(state.range(0));
  const ModelSpec spec = load_model_spec(directory.path());
  std::vector<double> of_copy, gbytes;
  const double bytes = static_cast<double>(std::filesystem::file_size(file));
  copy_seconds(file, threads);
  for (auto _ : state) {
    const double copy = copy_seconds(file, threads);
    const auto backend = make_backend({.device = "cpu", .isa = "", .threads = 1, .cores = {}});
    LoadProgress progress;
    const double start = bench::seconds_now();
    const auto checkpoint = Checkpoint::open(directory.path());
    RankModel model(spec, Mesh(GridSizes{}), 0, ModelOptions{}, *backend);
    model.load(*checkpoint, threads, progress);
    const double seconds = bench::seconds_now() - start;
    state.SetIterationTime(seconds);
    of_copy.push_back(copy / seconds);
    gbytes.push_back(1e-9 * bytes / seconds);
  }
  state.counters["of_copy"] = bench::median(of_copy);
  state.counters["GB_s"] = bench::median(gbytes);
}

BENCHMARK(load_bf16)
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(static_cast<int>(std::thread::hardware_concurrency()))
    ->UseManualTime()
    ->Iterations(kRounds)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace shoal
