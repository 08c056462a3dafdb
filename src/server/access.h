// SPDX-License-Identifier: Apache-2.0
// AccessKeys: who may ask what. "Authorization: Bearer KEY", compared in a time that tells nothing of how much of a key was right.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/routes.h"

namespace shoal {

class AccessKeys {
 public:
  // No API keys: routes of Access::kApi are open. The admin key opens everything; without one, API keys do.
  AccessKeys(std::vector<std::string> api_keys, std::string admin_key);

  // The reply if the request may not have a route of this access.
  std::optional<HttpReply> refusal(const HttpRequest& request, Access access) const;

 private:
  std::vector<std::string> api_keys_;
  std::string admin_key_;
};

// One key a line; empty lines and those that begin with # do not count. Error if there is none.
std::vector<std::string> read_key_file(const std::string& file);

// Takes a time that depends on the lengths only.
bool same_key(std::string_view a, std::string_view b);

}  // namespace shoal
