// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace shoal {

namespace {

int64_t rows_of(const std::vector<WeightPart>& parts) {
  int64_t rows = 0;
  for (const WeightPart& part : parts) rows += part.rows.size();
  return rows;
}

// Small enough to stay in cache between reading and packing, whole panels of 64 rows at a time.
int64_t rows_per_job(int64_t columns) {
  return std::max<int64_t>(64, (int64_t{1} << 17) / std::max<int64_t>(columns, 1) / 64 * 64);
}

// Neighbouring jobs that one thread takes together: about a large page of a matrix, so that one thread alone faults it in (two would
// clear it twice), but turns enough for all.
size_t jobs_per_turn(size_t jobs, int threads) {
  constexpr size_t kMost = 8, kTurnsPerThread = 16;
  return std::clamp<size_t>(jobs / (kTurnsPerThread * threads), 1, kMost);
}

}  // namespace

// Rows [row, row + count) of a part, to be written from row `target_row` of a matrix or tensor.
struct WeightTable::Job {
  const MatrixSource* source = nullptr;
  Range columns;
  int64_t row = 0;
  int64_t count = 0;
  int64_t target_row = 0;
  const MatrixEntry* matrix = nullptr;
  const TensorEntry* tensor = nullptr;

  DType dtype() const { return matrix ? matrix->spec.dtype : DType::kF32; }
  int64_t bytes() const { return count * columns.size() * static_cast<int64_t>(dtype_bytes(dtype())); }
  void run(const Checkpoint& checkpoint, Backend& backend, std::vector<float>& values) const;
};

// Straight from the file where it has the rows in a type that the backend takes, else through `values`.
void WeightTable::Job::run(const Checkpoint& checkpoint, Backend& backend, std::vector<float>& values) const {
  std::optional<HostRows> rows = checkpoint.stored_rows(*source, row, columns);
  if (!rows || (rows->dtype != DType::kF32 && rows->dtype != dtype())) {
    values.resize(count * columns.size());
    checkpoint.read(*source, row, count, columns, values);
    rows = HostRows::of(values, columns.size());
  }
  if (matrix) {
    backend.fill_rows_from(matrix->matrix, target_row, count, *rows);
  } else {
    backend.write_rows_from(tensor->tensor, target_row, count, *rows);
  }
}

const Matrix* WeightTable::matrix(MatrixKind kind, std::vector<WeightPart> parts, Range columns, DType dtype) {
  MatrixSpec spec{.out = rows_of(parts), .in = columns.size(), .kind = kind, .dtype = dtype};
  if (kind == MatrixKind::kRow) {
    spec.k_slice = columns;
    spec.k_total = parts.front().source.in;
  }
  if (room_) parts.clear();
  matrices_.push_back({spec, std::move(parts), columns, {}});
  return &matrices_.back().matrix;
}

const Tensor* WeightTable::vector(std::vector<WeightPart> parts) {
  const int64_t rows = rows_of(parts);
  if (room_) parts.clear();
  tensors_.push_back({std::move(parts), Shape{rows}, {}});
  return &tensors_.back().tensor;
}

const Tensor* WeightTable::table(WeightPart part) {
  const Shape shape{part.rows.size(), part.source.in};
  tensors_.push_back({{std::move(part)}, shape, {}});
  return &tensors_.back().tensor;
}

WeightPart WeightTable::part(const std::string& name, const Dim& out, const Dim& in) const {
  return {MatrixSource{.tensor = name + ".weight", .out = out.size, .in = in.size}, local(out)};
}

WeightPart WeightTable::vector_part(const std::string& full_name, const Dim& dim) const {
  return {MatrixSource{.tensor = full_name, .out = dim.size, .in = 1, .vector = true}, local(dim)};
}

const Matrix* WeightTable::column(const std::string& name, const Dim& out, const Dim& in) {
  CHECK(in.cut == Cut::kNone);
  return matrix(MatrixKind::kColumn, {part(name, out, in)}, local(in), compute_);
}

const Matrix* WeightTable::row(const std::string& name, const Dim& out, const Dim& in) {
  CHECK(out.cut == Cut::kNone);
  return matrix(MatrixKind::kRow, {part(name, out, in)}, local(in), compute_);
}

void WeightTable::declare_room(const std::function<void()>& declare) {
  room_ = true;
  declare();
  room_ = false;
}

int64_t WeightTable::bytes(const Backend& backend) const {
  int64_t total = 0;
  for (const MatrixEntry& entry : matrices_) total += backend.matrix_bytes(entry.spec);
  for (const TensorEntry& entry : tensors_)
    total += entry.shape.elements() * static_cast<int64_t>(dtype_bytes(DType::kF32));
  return total;
}

std::vector<MatrixSource> WeightTable::sources() const {
  std::vector<MatrixSource> result;
  for (const MatrixEntry& entry : matrices_)
    for (const WeightPart& part : entry.parts) result.push_back(part.source);
  for (const TensorEntry& entry : tensors_)
    for (const WeightPart& part : entry.parts) result.push_back(part.source);
  return result;
}

std::vector<WeightTable::Job> WeightTable::allocate(Backend& backend) {
  std::vector<Job> jobs;
  const auto add_parts = [&](const std::vector<WeightPart>& parts, Job job) {
    for (const WeightPart& part : parts) {
      job.source = &part.source;
      const int64_t step = rows_per_job(job.columns.size());
      for (int64_t row = part.rows.begin; row < part.rows.end; row += step) {
        job.row = row;
        job.count = std::min(step, part.rows.end - row);
        jobs.push_back(job);
        job.target_row += job.count;
      }
    }
  };
  for (MatrixEntry& entry : matrices_) {
    entry.matrix = backend.new_matrix(entry.spec);
    const auto first = static_cast<ptrdiff_t>(jobs.size());
    add_parts(entry.parts, {.columns = entry.columns, .matrix = &entry});
    if (entry.spec.kind != MatrixKind::kGateUp) continue;
    const int64_t half = entry.spec.out / 2;  // gate and up rows share panels: fill them one after the other
    std::stable_sort(jobs.begin() + first, jobs.end(),
                     [half](const Job& a, const Job& b) { return a.target_row % half < b.target_row % half; });
  }
  for (TensorEntry& entry : tensors_) {
    entry.tensor = backend.empty(DType::kF32, entry.shape);
    const int64_t columns = entry.shape.rank() == 1 ? 1 : entry.shape[1];
    add_parts(entry.parts, {.columns = {0, columns}, .tensor = &entry});
  }
  return jobs;
}

void WeightTable::reserve(Backend& backend) { allocate(backend); }

void WeightTable::load(const Checkpoint& checkpoint, Backend& backend, int threads, LoadProgress& progress) {
  const std::vector<Job> jobs = allocate(backend);
  const size_t turn = jobs_per_turn(jobs.size(), threads);
  std::atomic<size_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&] {
    std::vector<float> values;
    try {
      for (size_t first = next.fetch_add(turn); first < jobs.size(); first = next.fetch_add(turn)) {
        for (size_t i = first; i < std::min(first + turn, jobs.size()) && !progress.cancelled; ++i) {
          jobs[i].run(checkpoint, backend, values);
          progress.done_bytes += jobs[i].bytes();
        }
      }
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
      next = jobs.size();
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
    work();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace shoal
