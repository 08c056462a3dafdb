// SPDX-License-Identifier: Apache-2.0
#include "server/dashboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/errors.h"

namespace shoal {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

HttpRequest request_with(std::initializer_list<std::pair<std::string, std::string>> headers) {
  HttpRequest request;
  request.method = "GET";
  request.path = "/";
  request.headers = Headers(headers);
  return request;
}

const DashboardPage kPage = {"<html>", "packed", "0123"};

TEST(Dashboard, PlainUnlessTheClientTakesGzip) {
  for (const char* accepted : {"", "identity", "br, deflate", "gzip;q=0", "gzip; q=0.0, br"}) {
    const HttpReply reply = dashboard_reply(request_with({{"Accept-Encoding", accepted}}), kPage);
    EXPECT_EQ(reply.body, "<html>") << accepted;
    EXPECT_FALSE(reply.headers.has("content-encoding")) << accepted;
  }
  for (const char* accepted : {"gzip", "br, gzip, deflate", "gzip;q=0.5", "gzip;q=1.0, br;q=0"}) {
    const HttpReply reply = dashboard_reply(request_with({{"Accept-Encoding", accepted}}), kPage);
    EXPECT_EQ(reply.body, "packed") << accepted;
    EXPECT_EQ(reply.headers.get("content-encoding"), "gzip") << accepted;
  }
}

TEST(Dashboard, NotSentAgainToWhoHasIt) {
  const HttpReply first = dashboard_reply(request_with({{"Accept-Encoding", "gzip"}}), kPage);
  const std::string etag(first.headers.get("etag"));
  const HttpReply second =
      dashboard_reply(request_with({{"Accept-Encoding", "gzip"}, {"If-None-Match", "W/\"x\", " + etag}}), kPage);
  EXPECT_EQ(second.status, 304);
  EXPECT_TRUE(second.body.empty());
  // The plain page is another representation.
  EXPECT_EQ(dashboard_reply(request_with({{"If-None-Match", etag}}), kPage).status, 200);
}

TEST(Dashboard, SaysWhatItMayLoad) {
  const std::string html =
      "<meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'self'; x\"><p>";
  EXPECT_EQ(content_policy(html), "default-src 'self'; x");
  EXPECT_EQ(content_policy("<p>"), "default-src 'self'");
  const HttpReply reply = dashboard_reply(request_with({}), {html, "", "1"});
  EXPECT_EQ(reply.headers.get("content-security-policy"), "default-src 'self'; x; frame-ancestors 'none'");
}

TEST(Dashboard, BuiltWithoutIt) {
  try {
    dashboard_reply(request_with({}), {});
    FAIL();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 404);
    EXPECT_THAT(error.hint, HasSubstr("SHOAL_UI"));
  }
}

TEST(Dashboard, TheEmbeddedPageIsWholeAndOnlyLoadsItself) {
  if (kDashboardPage.html.empty()) GTEST_SKIP() << "built with SHOAL_UI=OFF";
  EXPECT_THAT(std::string(kDashboardPage.html), StartsWith("<!doctype html>"));
  EXPECT_NE(kDashboardPage.html.rfind("</html>"), std::string_view::npos);
  EXPECT_THAT(std::string(kDashboardPage.gzip), StartsWith("\x1f\x8b"));
  EXPECT_LT(kDashboardPage.gzip.size(), kDashboardPage.html.size() / 2);
  EXPECT_THAT(content_policy(kDashboardPage.html), StartsWith("default-src 'self'; script-src 'sha256-"));
  // The only addresses in it are names of XML's.
  size_t at = 0;
  while ((at = kDashboardPage.html.find("://", at + 1)) != std::string_view::npos) {
    EXPECT_EQ(kDashboardPage.html.substr(at, 14), "://www.w3.org/") << kDashboardPage.html.substr(at - 40, 80);
  }
}

}  // namespace
}  // namespace shoal
