// SPDX-License-Identifier: Apache-2.0
#include "server/access.h"

#include <fmt/format.h>

#include <fstream>
#include <utility>

#include "base/error.h"
#include "server/errors.h"

namespace shoal {
namespace {

// The key that the request brings; empty if none.
std::string_view given_key(const HttpRequest& request) {
  constexpr std::string_view kBearer = "bearer ";
  const std::string_view value = request.headers.get("authorization");
  if (value.size() <= kBearer.size() || !same_header(value.substr(0, kBearer.size()), kBearer))
    return request.headers.get("x-api-key");
  return value.substr(kBearer.size());
}

}  // namespace

AccessKeys::AccessKeys(std::vector<std::string> api_keys, std::string admin_key)
    : api_keys_(std::move(api_keys)), admin_key_(std::move(admin_key)) {}

std::optional<HttpReply> AccessKeys::refusal(const HttpRequest& request, Access access) const {
  if (access == Access::kPublic) return {};
  const std::string_view key = given_key(request);
  bool known = false;
  for (const std::string& mine : api_keys_) known |= same_key(mine, key);
  const bool admin = !admin_key_.empty() && same_key(admin_key_, key);
  if (admin) return {};
  if (access == Access::kAdmin && !admin_key_.empty()) {
    const bool anonymous = key.empty() || (!known && !api_keys_.empty());
    if (!anonymous) {
      ApiError error(403, "admin_key_required", "this route needs the server's admin key");
      error.hint = "send Authorization: Bearer with the key of --admin-key";
      return error_reply(error, request.id);
    }
  } else if (api_keys_.empty() || known) {
    return {};
  }
  ApiError error(401, "invalid_api_key", key.empty() ? "an API key is needed" : "the API key is wrong");
  error.hint = "send the header Authorization: Bearer KEY";
  return error_reply(error, request.id);
}

std::vector<std::string> read_key_file(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw Error(ErrorKind::kInvalid, fmt::format("--api-key-file {}: cannot be read", file));
  std::vector<std::string> keys;
  for (std::string line; std::getline(in, line);) {
    line.erase(line.find_last_not_of(" \t\r") + 1);
    if (!line.empty() && line.front() != '#') keys.push_back(line);
  }
  if (keys.empty()) throw Error(ErrorKind::kInvalid, fmt::format("--api-key-file {}: holds no key", file));
  return keys;
}

bool same_key(std::string_view a, std::string_view b) {
  unsigned different = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i)
    different |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b.empty() ? 0 : b[i % b.size()]);
  return different == 0;
}

}  // namespace shoal
