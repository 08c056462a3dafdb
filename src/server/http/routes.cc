// SPDX-License-Identifier: Apache-2.0
#include "server/http/routes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/json_file.h"
#include "base/nearest.h"
#include "server/errors.h"

namespace shoal {
namespace {

constexpr size_t kShownPaths = 3;
constexpr size_t kShownPathBytes = 80;

// Whether the path is the pattern's, and what its {…} stands for.
bool matches(std::string_view pattern, std::string_view path, std::string& item) {
  const size_t brace = pattern.find('{');
  if (brace == std::string_view::npos) return pattern == path;
  if (!path.starts_with(pattern.substr(0, brace)) || path.size() == brace) return false;
  const std::string_view rest = path.substr(brace);
  if (rest.find('/') != std::string_view::npos) return false;
  item = rest;
  return true;
}

bool answers(const Route& route, const std::string& method) {
  return route.method == method || (route.method == "GET" && method == "HEAD");
}

}  // namespace

Handler answer(std::function<HttpReply(const HttpRequest&)> handler) {
  return [handler = std::move(handler)](const std::shared_ptr<Exchange>& exchange) {
    exchange->reply(handler(exchange->request()));
  };
}

void RouteTable::add(Route route) {
  for (const Route& other : routes_) CHECK(other.path != route.path || other.method != route.method);
  routes_.push_back(std::move(route));
}

const Route& RouteTable::find(HttpRequest& request) const {
  for (const Route& route : routes_)
    if (answers(route, request.method) && matches(route.path, request.path, request.item)) return route;
  const std::string methods = allowed(request.path);
  const std::string shown = printable(request.path, kShownPathBytes);
  if (!methods.empty()) {
    ApiError error(405, "method_not_allowed",
                   fmt::format("{} does not answer {}", shown, printable(request.method, kShownPathBytes)));
    error.hint = "use " + methods;
    error.headers.add("allow", methods);
    throw error;
  }
  ApiError error(404, "unknown_route", fmt::format("there is no {}", shown));
  error.hint = fmt::format("the nearest are {}", fmt::join(nearest(request.path), ", "));
  throw error;
}

std::string RouteTable::allowed(const std::string& path) const {
  std::string methods, item;
  for (const Route& route : routes_) {
    if (!matches(route.path, path, item)) continue;
    if (!methods.empty()) methods += ", ";
    methods += route.method == "GET" ? "GET, HEAD" : route.method;
  }
  return methods;
}

std::vector<std::string> RouteTable::nearest(const std::string& path) const {
  std::vector<std::pair<int, std::string>> ranked;
  for (const Route& route : routes_) ranked.emplace_back(edit_distance(path, route.path), route.path);
  std::sort(ranked.begin(), ranked.end());
  ranked.erase(std::unique(ranked.begin(), ranked.end()), ranked.end());
  std::vector<std::string> list;
  for (const auto& [distance, name] : ranked)
    if (list.size() < kShownPaths) list.push_back(name);
  return list;
}

}  // namespace shoal
