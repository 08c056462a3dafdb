// SPDX-License-Identifier: Apache-2.0
#include "server/errors.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "server/access.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

template <typename Thrown>
ApiError as_api_error(const Thrown& thrown) {
  try {
    throw thrown;
  } catch (...) {
    return current_api_error();
  }
}

TEST(ApiErrors, AreNestedWithStableKeys) {
  ApiError error(400, "context_length_exceeded", "too long");
  error.param = "messages";
  error.hint = "shorten it";
  const HttpReply reply = error_reply(error, "req_1");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(Json::parse(reply.body), (Json{{"error",
                                            {{"message", "too long"},
                                             {"type", "invalid_request_error"},
                                             {"param", "messages"},
                                             {"code", "context_length_exceeded"},
                                             {"hint", "shorten it"},
                                             {"request_id", "req_1"}}}}));
  EXPECT_EQ(reply.headers.get("x-should-retry"), "false");
}

TEST(ApiErrors, SayWhetherToTryAgain) {
  for (const int status : {429, 500, 503, 504})
    EXPECT_EQ(error_reply({status, "c", "m"}, {}).headers.get("x-should-retry"), "true");
  for (const int status : {400, 401, 403, 404, 405, 409, 413, 501})
    EXPECT_EQ(error_reply({status, "c", "m"}, {}).headers.get("x-should-retry"), "false");
  ApiError busy(429, "queue_full", "m");
  busy.retry_after = 1.2;
  EXPECT_EQ(error_reply(busy, {}).headers.get("retry-after"), "2");
}

TEST(ApiErrors, ComeFromAnythingThrown) {
  EXPECT_EQ(as_api_error(Error(ErrorKind::kInvalid, "x")).status, 400);
  EXPECT_EQ(as_api_error(Error(ErrorKind::kUnsupported, "x")).code, "unsupported_parameter");
  EXPECT_EQ(as_api_error(std::runtime_error("x")).code, "internal_error");
  EXPECT_EQ(as_api_error(ApiError(404, "model_not_found", "x")).status, 404);
}

TEST(ApiErrors, BytesThatAreNoTextAreReplaced) {
  EXPECT_EQ(Json::parse(error_reply({400, "c", "a\xFF"}, {}).body)["error"]["message"], "a\xEF\xBF\xBD");
}

HttpRequest with_key(const std::string& value) { return {.headers = {{"Authorization", value}}}; }

int status(const AccessKeys& keys, const HttpRequest& request, Access access) {
  const auto refusal = keys.refusal(request, access);
  return refusal ? refusal->status : 200;
}

TEST(AccessKeys, GuardWhatTheyShould) {
  const AccessKeys keys({"one", "two"}, "root");
  EXPECT_EQ(status(keys, {}, Access::kPublic), 200);
  EXPECT_EQ(status(keys, {}, Access::kApi), 401);
  EXPECT_EQ(status(keys, with_key("Bearer two"), Access::kApi), 200);
  EXPECT_EQ(status(keys, with_key("bearer root"), Access::kApi), 200);
  EXPECT_EQ(status(keys, with_key("Basic two"), Access::kApi), 401);
  for (const char* wrong : {"Bearer ", "Bearer on", "Bearer onee", "Bearer", "one"})
    EXPECT_EQ(status(keys, with_key(wrong), Access::kApi), 401) << wrong;
  EXPECT_EQ(status(keys, with_key("Bearer one"), Access::kAdmin), 403);
  EXPECT_EQ(status(keys, with_key("Bearer x"), Access::kAdmin), 401);
  EXPECT_EQ(status(keys, with_key("Bearer root"), Access::kAdmin), 200);
}

TEST(AccessKeys, WithoutAnAdminKeyApiKeysDo) {
  const AccessKeys keys({"one"}, "");
  EXPECT_EQ(status(keys, with_key("Bearer one"), Access::kAdmin), 200);
  EXPECT_EQ(status(keys, {}, Access::kAdmin), 401);
  EXPECT_EQ(status(keys, with_key("Bearer "), Access::kAdmin), 401);
}

TEST(AccessKeys, WithoutAnyKeyAllIsOpenButWhatTheAdminKeyGuards) {
  EXPECT_EQ(status(AccessKeys({}, ""), {}, Access::kAdmin), 200);
  EXPECT_EQ(status(AccessKeys({}, "root"), {}, Access::kApi), 200);
  EXPECT_EQ(status(AccessKeys({}, "root"), {}, Access::kAdmin), 401);
}

TEST(AccessKeys, KeysAreComparedWhole) {
  EXPECT_TRUE(same_key("abc", "abc"));
  EXPECT_FALSE(same_key("abc", "abd"));
  EXPECT_FALSE(same_key("abc", "abcabc"));
  EXPECT_FALSE(same_key("abc", ""));
}

}  // namespace
}  // namespace shoal
