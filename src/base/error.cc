// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace shoal {

void Problems::throw_if_any(const std::string& summary) const {
  if (list_.empty()) return;
  std::string text = summary;
  for (const std::string& problem : list_) text += "\n  - " + problem;
  throw Error(ErrorKind::kInvalid, text);
}

void check_failed(const char* file, int line, const std::string& text) {
  std::fprintf(stderr, "%s:%d: internal check failed: %s\n", file, line, text.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace shoal
