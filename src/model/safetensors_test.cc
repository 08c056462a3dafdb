// SPDX-License-Identifier: Apache-2.0
// Hostile headers: every one is refused by one line that names the file and what is wrong.
#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "base/mmap.h"
#include "tests/support/make_checkpoint.h"

namespace shoal {
namespace {

using namespace testing_support;
using testing::HasSubstr;
using testing::StartsWith;

std::map<std::string, StoredTensor> parse(const std::string& bytes) {
  return parse_safetensors(std::as_bytes(std::span(bytes.data(), bytes.size())), "f.safetensors");
}

std::string error_of(const std::string& bytes) {
  try {
    parse(bytes);
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_THAT(text, StartsWith("f.safetensors: "));
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    EXPECT_LT(text.size(), 600u);
    return text;
  }
  return "accepted";
}

// A header of one tensor `a`, its fields as given.
std::string one(const std::string& fields) { return "{\"a\":{" + fields + "}}"; }

struct Hostile {
  const char* what;
  std::string header;
  size_t data_bytes;
  const char* error;
};

const std::string kDeep(300, '[');

const std::vector<Hostile> kHostileHeaders = {
    {"empty", "", 0, "does not begin with '{'"},
    {"no object", "[]", 0, "does not begin with '{'"},
    {"leading space", " {}", 0, "does not begin with '{'"},
    {"half an object", "{", 0, "syntax error"},
    {"text after the object", "{} {}", 0, "syntax error"},
    {"zero byte after the object", std::string("{}\0", 3), 0, "zero byte"},
    {"comment", "{/**/}", 0, "syntax error"},
    {"trailing comma", R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},})", 0, "syntax error"},
    {"invalid UTF-8 in a name", "{\"\xff\":{}}", 0, "UTF-8"},
    {"overlong UTF-8", "{\"\xc0\xaf\":{}}", 0, "UTF-8"},
    {"half a surrogate", R"({"\ud800":{}})", 0, "surrogate"},
    {"line break in a name", "{\"a\nb\":{}}", 0, "syntax error"},
    {"name with an escaped line break", R"({"a\nb":1})", 0, "tensor 'a?b': found 1"},
    {"huge name", "{\"" + std::string(50000, 'n') + "\":1}", 0, "nnn...': found 1"},
    {"tensor is a number", R"({"a":1})", 0, "tensor 'a': found 1, expected an object"},
    {"tensor is null", R"({"a":null})", 0, "tensor 'a': found null, expected an object"},
    {"tensor is a list", R"({"a":[]})", 0, "tensor 'a': found an array, expected an object"},
    {"same tensor twice",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
     "tensor 'a' is given twice"},
    {"same tensor twice, escaped", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8"}})",
     2, "tensor 'a' is given twice"},
    {"same field twice", one(R"("dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1])"), 1,
     "tensor 'a': \"dtype\" is given twice"},
    {"no type", one(R"("shape":[1],"data_offsets":[0,1])"), 1, "tensor 'a': has no \"dtype\""},
    {"no shape", one(R"("dtype":"U8","data_offsets":[0,1])"), 1, "tensor 'a': has no \"shape\""},
    {"no offsets", one(R"("dtype":"U8","shape":[1])"), 1, "tensor 'a': has no \"data_offsets\""},
    {"type is a number", one(R"("dtype":8,"shape":[1],"data_offsets":[0,1])"), 1,
     "found 8, expected a text as \"dtype\""},
    {"shape is a number", one(R"("dtype":"U8","shape":1,"data_offsets":[0,1])"), 1, "found 1, expected a list"},
    {"negative dimension", one(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), 1,
     "found -1, expected a list of up to 16 non-negative integers"},
    {"fractional dimension", one(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])"), 1,
     "found 1.0, expected a list"},
    {"dimension as text", one(R"("dtype":"U8","shape":["1"],"data_offsets":[0,1])"), 1, "found \"1\", expected a list"},
    {"dimension above 2^63", one(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1])"), 1,
     "larger than any file"},
    {"dimension above 2^64", one(R"("dtype":"U8","shape":[18446744073709551617],"data_offsets":[0,1])"), 1,
     "expected a list"},
    {"infinite dimension", one(R"("dtype":"U8","shape":[1e999],"data_offsets":[0,1])"), 1, "1e999"},
    {"product overflows to 0", one(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0,
     "larger than any file"},
    {"product overflows to 1", one(R"("dtype":"U8","shape":[6700417,641,4294967297],"data_offsets":[0,1])"), 1,
     "larger than any file"},
    {"bytes overflow", one(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])"), 0,
     "larger than any file"},
    {"nested shape", one(R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])"), 1, "found an array, expected a list"},
    {"17 dimensions", one(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])"), 1,
     "more than 16 numbers"},
    {"one offset", one(R"("dtype":"U8","shape":[1],"data_offsets":[0])"), 1, "data_offsets [0]: expected [begin, end]"},
    {"three offsets", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])"), 1, "expected [begin, end]"},
    {"negative offset", one(R"("dtype":"U8","shape":[1],"data_offsets":[-1,0])"), 1, "found -1, expected [begin, end]"},
    {"offsets as an object", one(R"("dtype":"U8","shape":[1],"data_offsets":{"0":1})"), 1,
     "found an object, expected [begin, end]"},
    {"begin after end", one(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])"), 1, "begins after its end"},
    {"offsets wrap around", one(R"("dtype":"U8","shape":[2],"data_offsets":[18446744073709551615,1])"), 1,
     "begins after its end"},
    {"end after the file", one(R"("dtype":"U8","shape":[9],"data_offsets":[0,9])"), 8,
     "tensor 'a' ends at byte 9 of the data, but the file holds only 8"},
    {"claims 2^62 bytes", one(R"("dtype":"U8","shape":[1152921504606846975],"data_offsets":[0,1152921504606846975])"),
     8, "truncated or corrupt"},
    {"size is not shape times type", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4,
     "hold 4 bytes, expected 8 for F32 [2]"},
    {"half a byte", one(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])"), 2,
     "F4 [3] is not a whole number of bytes"},
    {"overlap",
     R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})", 7,
     "tensor 'b' overlaps tensor 'a'"},
    {"two tensors in one place",
     R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4,
     "overlaps"},
    {"empty tensor inside another",
     R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})", 4,
     "tensor 'b' overlaps tensor 'a'"},
    {"hole before", one(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])"), 2,
     "bytes 0 to 1 of the data, before tensor 'a', belong to no tensor"},
    {"hole between",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})", 3,
     "before tensor 'b', belong to no tensor"},
    {"bytes after", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1])"), 3,
     "the last 2 bytes of the file belong to no tensor"},
    {"data without tensors", "{}", 3, "the last 3 bytes of the file belong to no tensor"},
    {"metadata is a list", R"({"__metadata__":[]})", 0, "header: found an array, expected texts only"},
    {"metadata of numbers", R"({"__metadata__":{"a":1}})", 0, "header: found 1, expected texts only"},
    {"nested metadata", R"({"__metadata__":{"a":{}}})", 0, "header: found an object, expected texts only"},
    {"metadata twice", R"({"__metadata__":{},"__metadata__":{}})", 0, "\"__metadata__\" is given twice"},
    {"deep unknown field", one("\"x\":" + kDeep), 0, "nested deeper than 128 levels"},
    {"deep list as shape", one("\"shape\":" + kDeep), 0, "found an array"},
};

TEST(Safetensors, HostileHeaders) {
  for (const Hostile& hostile : kHostileHeaders)
    EXPECT_THAT(error_of(safetensors_bytes(hostile.header, hostile.data_bytes)), HasSubstr(hostile.error))
        << hostile.what;
}

TEST(Safetensors, UnusualButValid) {
  EXPECT_TRUE(parse(safetensors_bytes("{}", 0)).empty());
  EXPECT_TRUE(parse(safetensors_bytes("{}    ", 0)).empty());
  EXPECT_TRUE(parse(safetensors_bytes(R"({"__metadata__":{"dtype":"x","shape":""}})", 0)).empty());
  const auto surplus_fields = safetensors_bytes(
      one(R"("x":1,"dtype":"U8","y":{"dtype":[{}],"a":null},"shape":[2],"z":[[1.5],"t"],"data_offsets":[0,2],"w":-1)"),
      2);
  const auto skipped = parse(surplus_fields);
  EXPECT_EQ(skipped.at("a").shape, (std::vector<int64_t>{2}));
  EXPECT_EQ(std::to_integer<int>(skipped.at("a").data[1]), 1);
  // Empty tensors lie anywhere between others.
  const auto with_empty = safetensors_bytes(
      R"({"c":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"b":{"dtype":"F32","shape":[0,7],"data_offsets":[1,1]},)"
      R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"d":{"dtype":"I64","shape":[0],"data_offsets":[2,2]}})",
      2);
  const auto empty = parse(with_empty);
  EXPECT_EQ(empty.size(), 4u);
  EXPECT_EQ(empty.at("b").data.size(), 0u);
  EXPECT_EQ(std::to_integer<int>(empty.at("c").data[0]), 1);
  // A type nobody knows is kept, whatever its size; those of the format keep their own.
  const auto unknown = parse(safetensors_bytes(one(R"("dtype":"Q3_K","shape":[10],"data_offsets":[0,4])"), 4)).at("a");
  EXPECT_EQ(unknown.type, StoredType::kOther);
  EXPECT_EQ(unknown.type_name, "Q3_K");
  EXPECT_EQ(parse(safetensors_bytes(one(R"("dtype":"F4","shape":[4],"data_offsets":[0,2])"), 2)).at("a").type_name,
            "F4");
}

std::string with_length(uint64_t length, const std::string& rest) {
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + rest;
}

TEST(Safetensors, HeaderLengths) {
  EXPECT_THAT(error_of(""), HasSubstr("0 bytes are no safetensors file"));
  EXPECT_THAT(error_of("1234567"), HasSubstr("7 bytes are no safetensors file"));
  EXPECT_THAT(error_of(with_length(0, "")), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(error_of(with_length(3, "{}")), HasSubstr("header of 3 bytes, but the file has only 10 bytes"));
  EXPECT_THAT(error_of(with_length(100'000'001, "{}")), HasSubstr("at most 100000000 are allowed"));
  EXPECT_THAT(error_of(with_length(UINT64_MAX, "{}")), HasSubstr("at most 100000000 are allowed"));
  EXPECT_THAT(error_of(with_length(UINT64_MAX - 7, "{}")), HasSubstr("at most 100000000 are allowed"));
  EXPECT_THAT(error_of(with_length(1, "{}")), HasSubstr("syntax error"));
}

// Memory grows with the bytes that are there, never with what they claim.
TEST(Safetensors, ManyNumbersAreRefusedEarly) {
  std::string numbers = "0";
  for (int i = 0; i < 1'000'000; ++i) numbers += ",0";
  EXPECT_THAT(error_of(safetensors_bytes(one("\"shape\":[" + numbers + "]"), 0)), HasSubstr("more than 16 numbers"));
}

TEST(Safetensors, TruncatedAtEveryLength) {
  const std::string whole = safetensors_bytes(
      {bf16_tensor("first", {3, 5}, random_values(15, 1)), f32_tensor("second", {2}, random_values(2, 2))});
  EXPECT_EQ(parse(whole).size(), 2u);
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_NE(error_of(whole.substr(0, size)), "accepted") << size;
  EXPECT_THAT(error_of(whole.substr(0, whole.size() - 1)),
              HasSubstr("tensor 'second' ends at byte 38 of the data, but the file holds only 37"));
  EXPECT_THAT(error_of(whole.substr(0, whole.size() - 9)), HasSubstr("truncated"));
  EXPECT_NE(error_of(whole + "x"), "accepted");
}

// Bit flips in a real header never crash; whatever is accepted has ranges inside the file.
TEST(Safetensors, FlippedBytes) {
  const std::string whole = safetensors_bytes(
      {bf16_tensor("first", {3, 5}, random_values(15, 1)), f32_tensor("second", {2}, random_values(2, 2))});
  const size_t header_end = whole.size() - 38;
  for (size_t at = 0; at < header_end; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      if (error_of(bytes) != "accepted") continue;
      size_t total = 0;
      for (const auto& [name, tensor] : parse(bytes)) total += tensor.data.size();
      EXPECT_LE(total, 38u);
    }
  }
}

}  // namespace
}  // namespace shoal
