// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/serve_run.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <sstream>

#include "apps/bench/openai_stream.h"
#include "apps/bench/statistics.h"

namespace shoal::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kProgressEvery = 0.1;

double thread_cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Generator {
 public:
  Generator(HttpClient& client, const ServeLoad& load) : client_(client), load_(load) {
    result_.records.resize(load.bodies.size());
    streams_.resize(load.bodies.size());
  }

  ServeRun run() {
    const double cpu = thread_cpu_seconds();
    start_ = Clock::now();
    send_due();
    tick();
    client_.run();
    result_.cpu_seconds = thread_cpu_seconds() - cpu;
    result_.late_p99_s = Sample(late_).percentile(99);
    return std::move(result_);
  }

 private:
  double now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  bool has_room() const { return load_.max_concurrency <= 0 || running_ < load_.max_concurrency; }

  // Sends what is due as far as there is room, and comes back for the next one.
  void send_due() {
    while (next_ < load_.bodies.size() && has_room()) {
      const double wait = load_.due_s[next_] - now();
      if (wait > 0) {
        if (!waiting_) client_.after(wait, [this] { waiting_ = false, send_due(); });
        waiting_ = true;
        return;
      }
      // Where it waited for room, that was not this program's doing.
      if (load_.max_concurrency <= 0) late_.push_back(-wait);
      send(next_++);
    }
  }

  void send(size_t index) {
    ++running_;
    RequestRecord& record = result_.records[index];
    record.queued_s = load_.due_s[index];
    record.input_tokens = load_.input_tokens[index];
    streams_[index] = std::make_unique<OpenAiStream>(record);
    OpenAiStream& stream = *streams_[index];
    record.start_s = now();
    client_.start({.method = "POST", .target = load_.endpoint, .body = load_.bodies[index]},
                  {.on_status = [&stream](int status) { stream.on_status(status); },
                   .on_body = [this, &stream](std::string_view bytes) { stream.on_body(bytes, now()); },
                   .on_end = [this, index](const std::string& error) { end(index, error); }});
  }

  void end(size_t index, const std::string& error) {
    streams_[index]->on_end(error, now());
    if (result_.records[index].ok && !streams_[index]->has_usage()) ++result_.without_usage;
    streams_[index].reset();
    --running_;
    ++done_;
    tokens_ += result_.records[index].output_tokens;
    result_.seconds = now();
    send_due();
  }

  void tick() {
    if (load_.on_progress) load_.on_progress(done_, tokens_);
    if (done_ < static_cast<int64_t>(load_.bodies.size())) client_.after(kProgressEvery, [this] { tick(); });
  }

  HttpClient& client_;
  const ServeLoad& load_;
  Clock::time_point start_;
  ServeRun result_;
  std::vector<std::unique_ptr<OpenAiStream>> streams_;
  std::vector<double> late_;
  size_t next_ = 0;
  int64_t running_ = 0, done_ = 0, tokens_ = 0;
  bool waiting_ = false;
};

}  // namespace

ServeRun run_load(HttpClient& client, const ServeLoad& load) { return Generator(client, load).run(); }

std::map<std::string, double> parse_metrics(const std::string& text) {
  std::map<std::string, double> sums;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t name_end = line.find_first_of("{ ");
    const size_t labels_end = name_end != std::string::npos && line[name_end] == '{' ? line.rfind('}') : name_end;
    if (labels_end == std::string::npos) continue;
    char* end = nullptr;
    const std::string value = line.substr(labels_end + 1);
    const double number = std::strtod(value.c_str(), &end);
    if (end != value.c_str()) sums[line.substr(0, name_end)] += number;
  }
  return sums;
}

}  // namespace shoal::bench
