// SPDX-License-Identifier: Apache-2.0
// Runs a fuzzer's entry point without libFuzzer: on the empty input, on every file of the given folders, and on a fixed number of
// mutations of each, the same in every run. So that a plain test build notices a fuzzer that no longer builds, a seed that fails,
// and the shallower faults. Not a fuzzer: nothing is learned (`make fuzz` does that).
//   usage: <name>_replay MUTATIONS [FOLDER...]
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

std::vector<Bytes> read_seeds(int count, char** folders) {
  std::vector<std::filesystem::path> paths;
  for (int i = 0; i < count; ++i) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folders[i])) {
      if (entry.is_regular_file()) paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> seeds = {{}};
  for (const auto& path : paths) seeds.push_back(read_file(path));
  return seeds;
}

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  // One to four changes: a bit, a byte, a word of an extreme value, bytes inserted or taken out, or the end cut off.
  Bytes operator()(Bytes bytes) {
    for (size_t change = below(4) + 1; change > 0; --change) apply(below(6), bytes);
    return bytes;
  }

 private:
  size_t below(size_t bound) { return random_() % bound; }

  // Headers come first, so half of the changes go to the first 256 bytes.
  size_t place(const Bytes& bytes) {
    const size_t range = below(2) ? std::min<size_t>(bytes.size(), 256) : bytes.size();
    return range ? below(range) : 0;
  }

  void apply(size_t kind, Bytes& bytes) {
    const size_t at = place(bytes);
    const auto here = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    const size_t length = std::min(below(16) + 1, bytes.size() - at);
    if (kind == 0 || bytes.empty()) {
      bytes.insert(here, below(16) + 1, static_cast<uint8_t>(below(256)));
    } else if (kind == 1) {
      *here ^= static_cast<uint8_t>(1u << below(8));
    } else if (kind == 2) {
      *here = static_cast<uint8_t>(below(256));
    } else if (kind == 3) {
      std::fill_n(here, length, static_cast<uint8_t>(below(2) ? 0xff : 0x00));
    } else if (kind == 4) {
      bytes.erase(here, here + static_cast<std::ptrdiff_t>(length));
    } else {
      bytes.resize(at);
    }
  }

  std::mt19937 random_;
};

void run(const Bytes& input) {
  const Bytes exact(input);  // no spare capacity: a read past the end is seen by AddressSanitizer
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MUTATIONS [FOLDER...]\n", argv[0]);
    return 2;
  }
  for (int i = 2; i < argc; ++i) {
    if (std::filesystem::is_directory(argv[i])) continue;
    std::fprintf(stderr, "%s: no such folder; run from the repository root\n", argv[i]);
    return 2;
  }
  const long mutations = std::strtol(argv[1], nullptr, 10);
  const std::vector<Bytes> seeds = read_seeds(argc - 2, argv + 2);
  Mutator mutate(1);
  for (const Bytes& seed : seeds) {
    run(seed);
    for (long i = 0; i < mutations; ++i) run(mutate(seed));
  }
  std::printf("%zu seeds, %ld mutations of each\n", seeds.size(), mutations);
  return 0;
}
