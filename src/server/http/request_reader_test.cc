// SPDX-License-Identifier: Apache-2.0
#include "server/http/request_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal {
namespace {

using State = RequestReader::State;

constexpr ReaderLimits kSmall{.max_header_bytes = 300, .max_body_bytes = 40};

// Feeds `bytes` in pieces of `size`; returns what was not taken.
std::string feed(RequestReader& reader, std::string bytes, size_t size) {
  std::string waiting;
  while (!bytes.empty()) {
    waiting += bytes.substr(0, size);
    bytes.erase(0, size);
    for (size_t used = 1; used > 0 && !waiting.empty();) {
      used = reader.put(waiting);
      waiting.erase(0, used);
    }
  }
  return waiting;
}

TEST(RequestReader, AnyPiecesMakeTheSameRequest) {
  const std::string bytes =
      "POST /v1/a%20b?x=1&y=a%2Bb+c HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n";
  for (size_t size = 1; size < bytes.size(); ++size) {
    RequestReader reader(kSmall);
    EXPECT_EQ(feed(reader, bytes, size), "GET / HTTP/1.1\r\n");
    ASSERT_EQ(reader.state(), State::kDone);
    EXPECT_EQ(reader.request().method, "POST");
    EXPECT_EQ(reader.request().path, "/v1/a b");
    EXPECT_EQ(reader.request().parameter("y"), "a+b c");
    EXPECT_EQ(reader.request().headers.get("HOST"), "h");
    EXPECT_EQ(reader.request().body, "hello");
    EXPECT_TRUE(reader.keep_alive());
  }
}

TEST(RequestReader, ChunksAreOneBody) {
  RequestReader reader(kSmall);
  feed(reader, "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 7);
  ASSERT_EQ(reader.state(), State::kDone);
  EXPECT_EQ(reader.request().body, "abcde");
}

TEST(RequestReader, OneAfterTheOther) {
  RequestReader reader(kSmall);
  std::string bytes = "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nconnection: close\r\n\r\n";
  bytes = feed(reader, bytes, bytes.size());
  EXPECT_EQ(reader.request().path, "/a");
  reader.reset();
  EXPECT_EQ(feed(reader, bytes, bytes.size()), "");
  EXPECT_EQ(reader.request().path, "/b");
  EXPECT_FALSE(reader.keep_alive());
}

struct Wrong {
  const char* name;
  std::string bytes;
  int status;
};

class WrongRequests : public testing::TestWithParam<Wrong> {};

TEST_P(WrongRequests, GetTheirStatus) {
  for (const size_t size : {size_t{1}, size_t{1000}}) {
    RequestReader reader(kSmall);
    feed(reader, GetParam().bytes, size);
    ASSERT_EQ(reader.state(), State::kFailed);
    EXPECT_EQ(reader.failed_status(), GetParam().status);
    EXPECT_FALSE(reader.failed_text().empty());
    EXPECT_EQ(reader.put("GET / HTTP/1.1\r\n\r\n"), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongRequests,
    testing::Values(Wrong{"nonsense", "hello\r\n\r\n", 400}, Wrong{"target", "GET x HTTP/1.1\r\n\r\n", 400},
                    Wrong{"long_header", "GET / HTTP/1.1\r\nx: " + std::string(400, 'y') + "\r\n\r\n", 431},
                    Wrong{"long_body", "POST / HTTP/1.1\r\ncontent-length: 41\r\n\r\n" + std::string(41, 'y'), 413},
                    Wrong{"long_chunks",
                          "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n29\r\n" + std::string(41, 'y'), 413},
                    Wrong{"both", "POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400},
                    Wrong{"two_lengths", "POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400}),
    [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace shoal
