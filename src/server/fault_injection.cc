// SPDX-License-Identifier: Apache-2.0
#include "server/fault_injection.h"

#include <fmt/format.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/json_file.h"

namespace shoal {
namespace {

struct Fault {
  FaultPlan plan;
  std::atomic<bool> over{false};
};

// A rank's model that fails when it is told to.
class FaultyModel final : public StageModel {
 public:
  FaultyModel(std::unique_ptr<StageModel> inner, std::vector<std::shared_ptr<Fault>> faults)
      : inner_(std::move(inner)), faults_(std::move(faults)) {}

  const RankPlan& plan() const override { return inner_->plan(); }
  void load(LoadProgress& progress) override { inner_->load(progress); }
  void allocate_kv(std::span<const int64_t> pages) override { inner_->allocate_kv(pages); }
  void connect(const RankGroups& groups) override { inner_->connect(groups); }
  Tensor forward(const StepPlan& plan, const Tensor& hidden) override {
    ++steps_;
    for (const auto& fault : faults_)
      if (fault->plan.step == steps_ && !fault->over.exchange(true)) happen(fault->plan);
    return inner_->forward(plan, hidden);
  }
  Tensor logits(const StepPlan& plan, const Tensor& hidden) override { return inner_->logits(plan, hidden); }
  const std::map<int64_t, LayerPicks>& expert_picks() const override { return inner_->expert_picks(); }
  std::shared_ptr<const Placement> placement(int64_t layer) const override { return inner_->placement(layer); }
  ExpertWeights expert_weights(int64_t layer, int64_t local_slot) const override {
    return inner_->expert_weights(layer, local_slot);
  }
  std::vector<ExpertWeights> expert_room() const override { return inner_->expert_room(); }
  void place_experts(std::span<const LayerFlip> flips) override { inner_->place_experts(flips); }

 private:
  static void happen(const FaultPlan& plan) {
    if (plan.stall_seconds == 0) throw std::runtime_error(fmt::format("killed at step {} by --inject", plan.step));
    std::this_thread::sleep_for(std::chrono::duration<double>(plan.stall_seconds));
  }

  std::unique_ptr<StageModel> inner_;
  std::vector<std::shared_ptr<Fault>> faults_;
  int64_t steps_ = 0;
};

[[noreturn]] void refuse(const std::string& text) {
  throw Error(ErrorKind::kInvalid,
              fmt::format("--inject {}: write rank=R,step=N,kill or rank=R,step=N,stall=2s", printable(text)));
}

double number(std::string_view text, const std::string& all) {
  double value = -1;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || !(value >= 0)) refuse(all);
  return value;
}

}  // namespace

FaultPlan parse_fault(const std::string& text) {
  FaultPlan plan;
  bool what = false;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const std::string_view view = part;
    if (view == "kill") {
      what = true;
    } else if (view.starts_with("rank=")) {
      plan.rank = static_cast<int>(number(view.substr(5), text));
    } else if (view.starts_with("step=")) {
      plan.step = static_cast<int64_t>(number(view.substr(5), text));
    } else if (view.starts_with("stall=")) {
      plan.stall_seconds = number(view.substr(6, view.size() - 6 - (view.ends_with('s') ? 1 : 0)), text);
      what = plan.stall_seconds > 0;
    } else {
      refuse(text);
    }
  }
  if (!what || plan.step < 1) refuse(text);
  return plan;
}

std::function<std::unique_ptr<StageModel>(int, std::unique_ptr<StageModel>)> inject(
    const std::vector<FaultPlan>& plans) {
  std::vector<std::shared_ptr<Fault>> all;
  for (const FaultPlan& plan : plans) {
    all.push_back(std::make_shared<Fault>());
    all.back()->plan = plan;
  }
  return [all](int rank, std::unique_ptr<StageModel> inner) -> std::unique_ptr<StageModel> {
    std::vector<std::shared_ptr<Fault>> mine;
    for (const auto& fault : all)
      if (fault->plan.rank == rank) mine.push_back(fault);
    if (mine.empty()) return inner;
    return std::make_unique<FaultyModel>(std::move(inner), std::move(mine));
  };
}

}  // namespace shoal
