// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/openai_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace shoal::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> events(const std::vector<std::string>& pieces) {
  std::vector<std::string> data;
  EventReader reader([&](std::string_view text) { data.emplace_back(text); });
  for (const std::string& piece : pieces) reader.feed(piece);
  return data;
}

TEST(EventReader, LineEndsCommentsAndPieces) {
  EXPECT_THAT(events({"data: a\n\ndata:b\r\n\r\n: ping\n\nevent: x\ndata: c\r\rdata: open"}),
              ElementsAre("a", "b", "c"));
  EXPECT_THAT(events({"da", "ta: x", "y\n", "\n"}), ElementsAre("xy"));
  EXPECT_THAT(events({"data: one\ndata: two\n\n"}), ElementsAre("one\ntwo"));
  EXPECT_THAT(events({"data: a\r", "\n\r\n"}), ElementsAre("a"));
  EXPECT_THAT(events({"\n\n\n"}), ElementsAre());
}

RequestRecord after(const std::vector<std::string>& pieces, int status = 200, const std::string& error = {}) {
  RequestRecord record;
  OpenAiStream stream(record);
  stream.on_status(status);
  double now = 1;
  for (const std::string& piece : pieces) stream.on_body(piece, now++);
  stream.on_end(error, now);
  return record;
}

const char* const kA = "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}\n\n";
const char* const kLast = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n";
const char* const kUsage =
    "data: "
    "{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9,\"prompt_tokens_details\":{\"cached_"
    "tokens\":2}}}\n\n";
const char* const kDone = "data: [DONE]\n\n";

TEST(OpenAiStream, ProperStream) {
  const RequestRecord record = after({kA, kA, kLast, kUsage, kDone});
  EXPECT_TRUE(record.ok) << record.error;
  EXPECT_THAT(record.pieces_s, ElementsAre(1, 2));
  EXPECT_EQ(record.end_s, 2) << "the last token, not [DONE]";
  EXPECT_EQ(record.output_tokens, 9);
  EXPECT_EQ(record.input_tokens, 3);
  EXPECT_EQ(record.cached_tokens, 2);
  EXPECT_EQ(record.text, "aa");
}

TEST(OpenAiStream, ARoleIsNoToken) {
  const RequestRecord record = after({"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
                                      "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n",
                                      "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n", kDone});
  EXPECT_TRUE(record.ok);
  EXPECT_THAT(record.pieces_s, ElementsAre(2));
  EXPECT_EQ(record.output_tokens, 1) << "without usage, pieces count";
}

TEST(OpenAiStream, AnswersWithoutText) {
  const RequestRecord record = after({kLast, kUsage, kDone});
  EXPECT_TRUE(record.ok);
  EXPECT_THAT(record.pieces_s, ElementsAre(1));
}

TEST(OpenAiStream, Failures) {
  EXPECT_THAT(after({kA, kLast}).error, HasSubstr("without [DONE]"));
  EXPECT_THAT(after({kA, kDone}).error, HasSubstr("no finish_reason"));
  EXPECT_THAT(after({kA}).error, HasSubstr("broke off"));
  EXPECT_THAT(after({}).error, HasSubstr("empty"));
  EXPECT_THAT(after({kA, "data: {\"error\":{\"message\":\"lost\"}}\n\n", kDone}).error, HasSubstr("lost"));
  EXPECT_THAT(after({kA, "data: {bad\n\n", kLast, kDone}).error, HasSubstr("{bad"));
  EXPECT_THAT(after({kA, kLast, kDone, kA}).error, HasSubstr("went on"));
  EXPECT_THAT(after({kA, kLast, kDone}, 200, "cut").error, HasSubstr("cut"));
  EXPECT_THAT(after({"{\"error\":{\"message\":\"too long\"}}"}, 400).error,
              testing::AllOf(HasSubstr("400"), HasSubstr("too long")));
  EXPECT_THAT(after({"{\"object\":\"error\",\"message\":\"flat\"}"}, 400).error, HasSubstr("flat"));
  EXPECT_THAT(after({}, 0, "refused").error, HasSubstr("refused"));
  EXPECT_FALSE(after({kA}).ok);
}

TEST(OpenAiStream, OddValuesAreSurvived) {
  for (const char* data : {"1", "null", "[]", "\"x\"", "{\"choices\":3}", "{\"choices\":[3]}",
                           "{\"choices\":[{\"text\":5,\"finish_reason\":{}}]}", "{\"usage\":[1]}",
                           "{\"usage\":{\"completion_tokens\":-5}}", "{\"choices\":[{\"delta\":{\"content\":[1]}}]}"})
    EXPECT_FALSE(after({"data: " + std::string(data) + "\n\n"}).ok) << data;
}

}  // namespace
}  // namespace shoal::bench
