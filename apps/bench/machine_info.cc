// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/machine_info.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <map>
#include <sstream>

#include "base/version.h"
#include "engine/machine.h"

namespace shoal::bench {
namespace {

namespace fs = std::filesystem;

std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

// FNV-1a, 64 bits.
class Hash {
 public:
  void add(const std::string& text) {
    for (const char c : text) value_ = (value_ ^ static_cast<uint8_t>(c)) * 0x100000001b3U;
  }
  std::string text() const { return fmt::format("{:016x}", value_); }

 private:
  uint64_t value_ = 0xcbf29ce484222325U;
};

}  // namespace

nlohmann::ordered_json machine_json() {
  const Machine machine = read_machine();
  const double bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  return {{"name", processor_name()},
          {"memory.total", bytes / (1 << 30)},
          {"clocks.mem", nullptr},
          {"cores", machine.cores.size()},
          {"usable_cores", machine.usable_cores}};
}

bool is_optimised_build() {
#ifdef __OPTIMIZE__
  return true;
#else
  return false;
#endif
}

nlohmann::ordered_json build_json() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const bool sanitized = true;
#else
  const bool sanitized = false;
#endif
  return {
      {"version", kVersion}, {"compiler", __VERSION__}, {"optimised", is_optimised_build()}, {"sanitized", sanitized}};
}

std::string model_fingerprint(const fs::path& model_dir) {
  Hash hash;
  std::ostringstream config;
  config << std::ifstream(model_dir / "config.json").rdbuf();
  hash.add(config.str());
  std::map<std::string, uintmax_t> weights;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(model_dir, error)) {
    if (entry.path().extension() == ".safetensors") weights[entry.path().filename().string()] = entry.file_size(error);
  }
  for (const auto& [name, size] : weights) hash.add(fmt::format("{} {}\n", name, size));
  return hash.text();
}

std::string utc_time() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
}

}  // namespace shoal::bench
