// SPDX-License-Identifier: Apache-2.0
#include "server/http/routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/errors.h"

namespace shoal {
namespace {

using testing::HasSubstr;

RouteTable table() {
  RouteTable routes;
  const Handler nothing = [](const std::shared_ptr<Exchange>&) {};
  routes.post("/v1/completions", Access::kApi, nothing);
  routes.get("/v1/requests", Access::kAdmin, nothing);
  routes.add({"DELETE", "/v1/requests/{id}", Access::kApi, RunOn::kIo, nothing});
  return routes;
}

ApiError refusal(HttpRequest request) {
  try {
    table().find(request);
  } catch (const ApiError& error) {
    return error;
  }
  return {200, "found", ""};
}

TEST(Routes, FindByMethodPathAndItem) {
  const RouteTable routes = table();
  HttpRequest request{.method = "DELETE", .path = "/v1/requests/req_1"};
  EXPECT_EQ(routes.find(request).path, "/v1/requests/{id}");
  EXPECT_EQ(request.item, "req_1");
  HttpRequest head{.method = "HEAD", .path = "/v1/requests"};
  EXPECT_EQ(routes.find(head).access, Access::kAdmin);
}

TEST(Routes, AnotherMethodIsNamed) {
  const ApiError error = refusal({.method = "GET", .path = "/v1/completions"});
  EXPECT_EQ(error.status, 405);
  EXPECT_EQ(error.headers.get("allow"), "POST");
}

TEST(Routes, UnknownPathsNameTheNearest) {
  const ApiError error = refusal({.method = "POST", .path = "/v1/completion"});
  EXPECT_EQ(error.status, 404);
  EXPECT_EQ(error.code, "unknown_route");
  EXPECT_THAT(error.hint, HasSubstr("/v1/completions"));
  EXPECT_EQ(refusal({.method = "DELETE", .path = "/v1/requests/a/b"}).status, 404);
  EXPECT_EQ(refusal({.method = "DELETE", .path = "/v1/requests/"}).status, 404);
}

TEST(Headers, AreSetOnceAndFoundInAnyCase) {
  Headers headers = {{"A", "1"}, {"b", "2"}};
  headers.set("a", "3");
  EXPECT_EQ(headers.get("A"), "3");
  EXPECT_TRUE(headers.has("B"));
  EXPECT_FALSE(headers.has("c"));
}

TEST(RequestId, IsTheClientsIfItIsFitForALog) {
  EXPECT_EQ(request_id("trace-1_a.b"), "trace-1_a.b");
  for (const char* unfit : {"", "a b", "a\r\nb", "\xC3\xA9"})
    EXPECT_THAT(request_id(unfit), testing::StartsWith("req_"));
  EXPECT_THAT(request_id(std::string(65, 'a')), testing::StartsWith("req_"));
  EXPECT_NE(request_id(""), request_id(""));
}

TEST(PercentDecoding, LeavesWhatIsBroken) {
  EXPECT_EQ(percent_decoded("%41%zz%4", false), "A%zz%4");
  EXPECT_EQ(percent_decoded("a+b%2B", true), "a b+");
}

}  // namespace
}  // namespace shoal
