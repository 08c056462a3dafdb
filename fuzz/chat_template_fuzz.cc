// SPDX-License-Identifier: Apache-2.0
// Any bytes as a chat template: refused with an Error or rendered, within small limits.
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto messages = nlohmann::ordered_json::parse(
      R"([{"role": "user", "content": "hi <b> \u00e9"}, {"role": "assistant", "content": null, "n": [1, -2.5, true, {"k": {}}]}])");
  shoal::ChatOptions options;
  options.add_generation_prompt = true;
  options.now = 1'000'000'000;
  options.limits = {.output_bytes = 1 << 16, .work_bytes = 1 << 22, .steps = 20'000, .depth = 300};
  try {
    shoal::ChatTemplate::parse({reinterpret_cast<const char*>(data), size}).render(messages, options);
  } catch (const shoal::Error&) {
  }
  return 0;
}
