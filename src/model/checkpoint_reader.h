// SPDX-License-Identifier: Apache-2.0
// Reads matrices out of tensors already found: what Checkpoint::open hands its mapped shards to, and what tests and
// fuzzers hand tensors in memory to. Not here: files and directories (model/checkpoint_open.cc).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mmap.h"
#include "model/checkpoint.h"

namespace shoal {

struct CheckpointParts {
  std::filesystem::path directory;  // for errors about tensors that are not there
  std::map<std::string, StoredTensor> tensors = {};
  std::vector<MappedFile> files = {};  // what the tensors' data points into, if not held elsewhere
  int64_t fp8_block_rows = 128;
  int64_t fp8_block_columns = 128;
};

std::unique_ptr<Checkpoint> make_checkpoint(CheckpointParts parts);

}  // namespace shoal
