// SPDX-License-Identifier: Apache-2.0
#include "server/dashboard.h"

#include <fstream>
#include <iterator>

#include "server/errors.h"

namespace shoal {
namespace {

constexpr std::string_view kPolicyMark = "http-equiv=\"Content-Security-Policy\" content=\"";

HttpReply page_reply(std::string_view html) {
  HttpReply reply;
  reply.content_type = "text/html; charset=utf-8";
  // A frame around the page could make its user press buttons unseen; only a header can forbid that.
  reply.headers.set("content-security-policy", content_policy(html) + "; frame-ancestors 'none'");
  reply.headers.set("x-content-type-options", "nosniff");
  reply.headers.set("referrer-policy", "no-referrer");
  return reply;
}

// "gzip" among the codings that the client takes, and not with q=0.
bool takes_gzip(std::string_view accepted) {
  const size_t at = accepted.find("gzip");
  if (at == std::string_view::npos) return false;
  const std::string_view after = accepted.substr(at + 4, accepted.find(',', at) - (at + 4));
  const size_t weight = after.find("q=0");
  return weight == std::string_view::npos || after.find_first_of("123456789", weight + 3) != std::string_view::npos;
}

HttpReply folder_reply(const std::string& folder) {
  const std::string path = folder + "/index.html";
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    ApiError error(404, "page_not_found", "cannot read " + path);
    error.hint = "run node ui/build.mjs, and give --ui-dir ui/dist";
    throw error;
  }
  const std::string html{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  HttpReply reply = page_reply(html);
  reply.headers.set("cache-control", "no-store");
  reply.body = html;
  return reply;
}

}  // namespace

std::string content_policy(std::string_view html) {
  const size_t at = html.find(kPolicyMark);
  if (at == std::string_view::npos) return "default-src 'self'";
  const size_t begin = at + kPolicyMark.size();
  return std::string(html.substr(begin, html.find('"', begin) - begin));
}

HttpReply dashboard_reply(const HttpRequest& request, const DashboardPage& page) {
  if (page.html.empty()) {
    ApiError error(404, "feature_not_built", "this server was built without its dashboard");
    error.hint = "build with SHOAL_UI=ON; GET /v1/ranks and /metrics tell the same";
    throw error;
  }
  const bool packed = takes_gzip(request.headers.get("accept-encoding"));
  const std::string etag = "\"" + std::string(page.etag) + (packed ? "-gzip\"" : "\"");
  HttpReply reply = page_reply(page.html);
  reply.headers.set("etag", etag);
  reply.headers.set("cache-control", "no-cache");
  reply.headers.set("vary", "accept-encoding");
  if (request.headers.get("if-none-match").find(etag) != std::string_view::npos) {
    reply.status = 304;
    return reply;
  }
  if (packed) reply.headers.set("content-encoding", "gzip");
  reply.body = std::string(packed ? page.gzip : page.html);
  return reply;
}

void add_dashboard_routes(RouteTable& routes, const std::string& folder) {
  if (folder.empty()) {
    routes.get("/", Access::kPublic,
               answer([](const HttpRequest& request) { return dashboard_reply(request, kDashboardPage); }));
  } else {
    routes.get("/", Access::kPublic, answer([folder](const HttpRequest&) { return folder_reply(folder); }),
               RunOn::kWorker);
  }
}

}  // namespace shoal
