// SPDX-License-Identifier: Apache-2.0
// RouteTable: which handler answers a method and path, and who may ask. A path's last segment may be {anything}: "/v1/requests/{id}".
// HEAD is answered as GET without its body. Immutable once the server runs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/exchange.h"

namespace shoal {

enum class Access : uint8_t {
  kPublic,  // anybody
  kApi,     // who has a key, if keys are set
  kAdmin,   // who has the admin key, if one is set; else who has a key
};

// Where a handler runs: on the I/O thread, where it must take no longer than some 100 µs, or on a worker.
enum class RunOn : uint8_t { kIo, kWorker };

using Handler = std::function<void(const std::shared_ptr<Exchange>&)>;

struct Route {
  std::string method;
  std::string path;
  Access access = Access::kApi;
  RunOn run_on = RunOn::kIo;
  Handler handler;
};

// A handler that answers at once. What it throws becomes an error reply (errors.h), as with every handler.
Handler answer(std::function<HttpReply(const HttpRequest&)> handler);

class RouteTable {
 public:
  // The path must not be there with this method yet.
  void add(Route route);
  void get(std::string path, Access access, Handler handler, RunOn run_on = RunOn::kIo) {
    add({"GET", std::move(path), access, run_on, std::move(handler)});
  }
  void post(std::string path, Access access, Handler handler, RunOn run_on = RunOn::kIo) {
    add({"POST", std::move(path), access, run_on, std::move(handler)});
  }

  // The route, with `request.item` set; or throws ApiError: 404 with the nearest paths, 405 with `allow`.
  const Route& find(HttpRequest& request) const;
  // Methods of that path, "GET, HEAD, POST"; empty if there is no such path.
  std::string allowed(const std::string& path) const;

 private:
  std::vector<std::string> nearest(const std::string& path) const;
  std::vector<Route> routes_;
};

}  // namespace shoal
