// SPDX-License-Identifier: Apache-2.0
#include "model/step_memory.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"
#include "base/whole.h"
#include "comm/dry_comm.h"
#include "comm/thread/group_state.h"

namespace shoal {
namespace {

class DryGroups {
 public:
  DryGroups(const Mesh& mesh, int rank) {
    constexpr std::array kAxes = {Axis::kAttn, Axis::kCp, Axis::kFfnTp, Axis::kMoe, Axis::kPp};
    for (const Axis axis : kAxes) {
      const std::vector<int> ranks = mesh.group(axis, rank);
      const auto place = std::find(ranks.begin(), ranks.end(), rank) - ranks.begin();
      comms_.push_back(std::make_unique<DryComm>("dry", static_cast<int>(place), static_cast<int>(ranks.size())));
    }
  }
  // Two posts of each collective group may be staged at a time.
  int64_t staging_bytes() const {
    return 2 * kStagingBytes *
           std::count_if(comms_.begin(), comms_.end() - 1, [](const auto& c) { return c->size() > 1; });
  }
  RankGroups get() {
    return {.attn = comms_[0].get(),
            .cp = comms_[1].get(),
            .ffn_tp = comms_[2].get(),
            .moe = comms_[3].get(),
            .pp = comms_[4].get()};
  }

 private:
  std::vector<std::unique_ptr<DryComm>> comms_;
};

// Everything lies on page 0, which is never read.
void add_sequence(Batch& batch, int64_t rows, int64_t context, int64_t prompt_rows, int64_t tokens_per_block) {
  const SequenceSpan span{.row_begin = std::ssize(batch.tokens),
                          .rows = rows,
                          .context = context,
                          .prompt_rows = prompt_rows,
                          .pages = std::vector<int32_t>((context + tokens_per_block - 1) / tokens_per_block)};
  for (int64_t i = 0; i < rows; ++i) {
    batch.tokens.push_back(0);
    batch.positions.push_back(static_cast<int32_t>(context - rows + i));
  }
  for (KvBatch& kv : batch.kv) {
    kv.slots.resize(batch.tokens.size());
    kv.spans.push_back(span);
  }
}

// `prompts`: as few sequences as have the rows, all of them prompts; else as many as there may be, most of which generate.
StepPlan longest_step(StepSize size, bool prompts, const MemoryQuestion& question) {
  if (prompts) size.sequences = ceil_div(size.rows, size.context);
  Batch batch;
  batch.kv.resize(kv_pools(question.spec).size());
  int64_t left = size.rows;
  // Of those that context parallelism gathers together (model/context_parallel.cc) every rank has pages.
  const int64_t round = question.options.tokens_per_block * question.mesh.sizes().context;
  const int64_t shared = std::min(std::max(size.context / size.sequences, round), size.context);
  // The first ones take all that they can, every other a row.
  for (int64_t i = 0; i < size.sequences; ++i) {
    const int64_t rows = std::min(left - (size.sequences - i - 1), size.context);
    const int64_t context = i == 0 ? size.context : std::max({rows, shared, int64_t{2}});
    add_sequence(batch, rows, context, i == 0 || rows > 1 ? rows : 0, question.options.tokens_per_block);
    left -= rows;
  }
  batch.logit_rows.resize(size.logit_rows);
  std::iota(batch.logit_rows.begin(), batch.logit_rows.end(), static_cast<int32_t>(size.rows - size.logit_rows));
  return {.step = 0, .groups = std::vector<Batch>(question.mesh.sizes().attention_data, batch), .experts = nullptr};
}

}  // namespace

RankMemory rank_memory(const MemoryQuestion& question, int rank) {
  CHECK_EQ(question.options.most_tokens, question.step.rows);
  const auto meter = std::make_shared<MemoryMeter>();
  BackendOptions options = question.backend;
  options.device = "cpu";
  options.cores.clear();
  options.dry = true;
  options.memory = meter;
  const std::unique_ptr<Backend> backend = make_backend(options);
  RankModel model(question.spec, question.mesh, rank, question.options, *backend);
  model.reserve();
  const int64_t kept = meter->now();
  model.allocate_kv(std::vector<int64_t>(kv_pools(question.spec).size(), 1));
  DryGroups groups(question.mesh, rank);
  model.connect(groups.get());
  const int64_t before = meter->now();
  meter->forget_peak();
  for (const bool prompts : {true, false, true}) {  // what was sent is held during the next one
    const StepPlan plan = longest_step(question.step, prompts, question);
    Tensor hidden;
    if (!model.first_stage()) hidden = backend->empty(DType::kF32, {question.step.rows, question.spec.hidden});
    hidden = model.forward(plan, hidden);
    if (!model.last_stage()) {
      groups.get().pp->send(hidden, groups.get().pp->rank() + 1);
    } else if (!plan.groups.front().logit_rows.empty()) {
      model.logits(plan, hidden);
    }
  }
  return {.kept_bytes = kept, .step_bytes = meter->peak() - before, .comm_bytes = groups.staging_bytes()};
}

}  // namespace shoal
