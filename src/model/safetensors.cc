// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"

namespace shoal {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian and read in place");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's bound
constexpr size_t kMaxDimensions = 16;
constexpr int kMaxDepth = 128;
constexpr std::string_view kLfsPointer = "version https://git-lfs.github.com/spec/";

struct TypeRow {
  std::string_view name;
  int bits;
  StoredType type;
};

// Every type of the format; those the engine has no use for are kOther, but their sizes are checked all the same.
constexpr TypeRow kTypes[] = {
    {"F32", 32, StoredType::kF32},       {"F16", 16, StoredType::kF16},      {"BF16", 16, StoredType::kBF16},
    {"F8_E4M3", 8, StoredType::kF8E4M3}, {"U8", 8, StoredType::kU8},         {"I8", 8, StoredType::kI8},
    {"I32", 32, StoredType::kI32},       {"I64", 64, StoredType::kI64},      {"F64", 64, StoredType::kOther},
    {"BOOL", 8, StoredType::kOther},     {"U16", 16, StoredType::kOther},    {"I16", 16, StoredType::kOther},
    {"U32", 32, StoredType::kOther},     {"U64", 64, StoredType::kOther},    {"C64", 64, StoredType::kOther},
    {"F8_E5M2", 8, StoredType::kOther},  {"F8_E8M0", 8, StoredType::kOther}, {"F6_E2M3", 6, StoredType::kOther},
    {"F6_E3M2", 6, StoredType::kOther},  {"F4", 4, StoredType::kOther},
};

const TypeRow* find_type(std::string_view name) {
  const auto row = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& r) { return r.name == name; });
  return row == std::end(kTypes) ? nullptr : row;
}

// A tensor as the header says, before its range is known to lie in the file.
struct Entry {
  std::string name;
  std::string type_name = {};
  std::vector<uint64_t> shape = {};
  std::vector<uint64_t> offsets = {};
  bool has_type = false, has_shape = false, has_offsets = false;
};

std::string numbers_text(const std::vector<uint64_t>& numbers) {
  std::string text;
  for (uint64_t number : numbers) text += (text.empty() ? "" : ", ") + std::to_string(number);
  return "[" + text + "]";
}

// What is wrong with an entry taken by itself, or nothing.
std::string entry_problem(const Entry& entry) {
  if (!entry.has_type) return "has no \"dtype\"";
  if (!entry.has_shape) return "has no \"shape\"";
  if (!entry.has_offsets) return "has no \"data_offsets\"";
  const std::string offsets = "data_offsets " + numbers_text(entry.offsets);
  if (entry.offsets.size() != 2) return offsets + ": expected [begin, end]";
  if (entry.offsets[0] > entry.offsets[1]) return offsets + ": begins after its end";
  const TypeRow* type = find_type(entry.type_name);
  int64_t bits = type ? type->bits : 1;
  for (uint64_t dimension : entry.shape) {
    const bool huge = dimension > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    if (huge || __builtin_mul_overflow(bits, static_cast<int64_t>(dimension), &bits))
      return "shape " + numbers_text(entry.shape) + " is larger than any file";
  }
  if (!type) return "";  // of unknown size
  const std::string what = entry.type_name + " " + numbers_text(entry.shape);
  if (bits % 8 != 0) return what + " is not a whole number of bytes";
  const uint64_t bytes = static_cast<uint64_t>(bits / 8);
  if (bytes == entry.offsets[1] - entry.offsets[0]) return "";
  return offsets + " hold " + std::to_string(entry.offsets[1] - entry.offsets[0]) + " bytes, expected " +
         std::to_string(bytes) + " for " + what;
}

// Reads {"__metadata__": {text: text}, name: {"dtype": text, "shape": [..], "data_offsets": [begin, end]}, ..} and
// nothing else; unknown fields of a tensor are skipped, as the format's other readers do.
class HeaderReader final : public JsonEvents {
 public:
  std::map<std::string, Entry> take() { return std::move(entries_); }

  bool null() override { return other("null"); }
  bool boolean(bool) override { return other("true or false"); }
  bool number_integer(int64_t value) override { return other(std::to_string(value)); }
  bool number_float(double, const std::string& text) override { return other(printable(text, 40)); }

  bool number_unsigned(uint64_t value) override {
    if (at_ != At::kShapeItem && at_ != At::kOffsetItem) return other(std::to_string(value));
    std::vector<uint64_t>& list = at_ == At::kShapeItem ? entry_.shape : entry_.offsets;
    if (list.size() == kMaxDimensions) refuse("more than " + std::to_string(kMaxDimensions) + " numbers");
    list.push_back(value);
    return true;
  }

  bool string(std::string& value) override {
    if (at_ == At::kMetadataText) {
      at_ = At::kMetadataKey;
    } else if (at_ == At::kType) {
      entry_.type_name = printable(value, 40);
      at_ = At::kField;
    } else {
      return other("\"" + printable(value, 40) + "\"");
    }
    return true;
  }

  bool start_object(size_t) override {
    switch (at_) {
      case At::kStart:
        at_ = At::kName;
        break;
      case At::kEntry:
        at_ = At::kField;
        break;
      case At::kMetadata:
        at_ = At::kMetadataKey;
        break;
      case At::kUnknown:
        deeper();
        break;
      default:
        refuse("an object");
    }
    return true;
  }

  bool end_object() override {
    switch (at_) {
      case At::kName:
        at_ = At::kDone;
        break;
      case At::kField:
        finish_entry();
        break;
      case At::kMetadataKey:
        at_ = At::kName;
        break;
      default:
        shallower();
    }
    return true;
  }

  bool start_array(size_t) override {
    switch (at_) {
      case At::kShape:
        at_ = At::kShapeItem;
        break;
      case At::kOffsets:
        at_ = At::kOffsetItem;
        break;
      case At::kUnknown:
        deeper();
        break;
      default:
        refuse("an array");
    }
    return true;
  }

  bool end_array() override {
    if (at_ == At::kUnknown) {
      shallower();
    } else {
      at_ = At::kField;
    }
    return true;
  }

  bool key(std::string& name) override {
    if (at_ == At::kName) {
      begin_entry(name);
    } else if (at_ == At::kField) {
      begin_field(name);
    } else if (at_ == At::kMetadataKey) {
      at_ = At::kMetadataText;
    }
    return true;
  }

 protected:
  std::string place() const override { return name(); }  // the header is one line

 private:
  // What the next event must be.
  enum class At {
    kStart,
    kDone,
    kName,
    kEntry,
    kField,
    kType,
    kShape,
    kShapeItem,
    kOffsets,
    kOffsetItem,
    kMetadata,
    kMetadataKey,
    kMetadataText,
    kUnknown
  };

  void begin_entry(const std::string& name) {
    entry_ = Entry{.name = name};
    if (name == "__metadata__") {
      if (std::exchange(has_metadata_, true)) fail("header: \"__metadata__\" is given twice");
      at_ = At::kMetadata;
      return;
    }
    if (entries_.contains(name)) fail("tensor '" + printable(name) + "' is given twice");
    at_ = At::kEntry;
  }

  void begin_field(const std::string& name) {
    bool* seen = name == "dtype" ? &entry_.has_type : name == "shape" ? &entry_.has_shape : nullptr;
    if (name == "data_offsets") seen = &entry_.has_offsets;
    if (!seen) {
      at_ = At::kUnknown;
      return;
    }
    if (std::exchange(*seen, true)) fail("tensor '" + printable(entry_.name) + "': \"" + name + "\" is given twice");
    at_ = name == "dtype" ? At::kType : name == "shape" ? At::kShape : At::kOffsets;
  }

  void finish_entry() {
    if (const std::string problem = entry_problem(entry_); !problem.empty())
      fail("tensor '" + printable(entry_.name) + "': " + problem);
    std::string name = entry_.name;
    entries_.emplace(std::move(name), std::move(entry_));
    at_ = At::kName;
  }

  void deeper() {
    if (++depth_ > kMaxDepth) fail("header: nested deeper than " + std::to_string(kMaxDepth) + " levels");
  }
  void shallower() {
    if (--depth_ == 0) at_ = At::kField;
  }

  // A scalar where none of the format's own belongs.
  bool other(const std::string& value) {
    if (at_ != At::kUnknown) refuse(value);
    if (depth_ == 0) at_ = At::kField;
    return true;
  }

  [[noreturn]] void refuse(const std::string& found) const {
    std::string where = "tensor '" + printable(entry_.name) + "': ", expected;
    switch (at_) {
      case At::kStart:
        where = "header: ", expected = "an object of tensors";
        break;
      case At::kEntry:
        expected = "an object with \"dtype\", \"shape\" and \"data_offsets\"";
        break;
      case At::kType:
        expected = "a text as \"dtype\"";
        break;
      case At::kShape:
      case At::kShapeItem:
        expected = "a list of up to 16 non-negative integers as \"shape\"";
        break;
      case At::kOffsets:
      case At::kOffsetItem:
        expected = "[begin, end] as \"data_offsets\"";
        break;
      default:
        where = "header: ", expected = "texts only in \"__metadata__\"";
    }
    fail(where + "found " + found + ", expected " + expected);
  }

  std::map<std::string, Entry> entries_;
  Entry entry_;
  At at_ = At::kStart;
  int depth_ = 0;  // inside an unknown field
  bool has_metadata_ = false;
};

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& what) {
  throw Error(ErrorKind::kInvalid, file.string() + ": " + what);
}

// The header's text; everything after it is data.
std::string_view header_text(std::span<const std::byte> file, const std::filesystem::path& name) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const std::string size = std::to_string(file.size()) + " bytes";
  if (text.starts_with(kLfsPointer))
    fail(name, "is a Git LFS pointer of " + size + ", not the weights; run `git lfs pull` in its directory");
  uint64_t length = 0;
  if (text.size() < sizeof(length))
    fail(name, size + " are no safetensors file, expected at least 8; download it again");
  std::memcpy(&length, text.data(), sizeof(length));
  if (length > kMaxHeaderBytes)
    fail(name, "header of " + std::to_string(length) + " bytes, at most " + std::to_string(kMaxHeaderBytes) +
                   " are allowed; is this a safetensors file?");
  if (length > text.size() - sizeof(length))
    fail(name, "header of " + std::to_string(length) + " bytes, but the file has only " + size +
                   "; it is truncated, download it again");
  const std::string_view header = text.substr(sizeof(length), length);
  if (!header.starts_with('{')) fail(name, "header does not begin with '{'; is this a safetensors file?");
  return header;
}

// The ranges must tile the data: sorted, each begins where the one before it ends, the last ends with the file.
void check_tiling(const std::map<std::string, Entry>& entries, uint64_t data_bytes, const std::filesystem::path& file) {
  std::vector<const Entry*> order;
  for (const auto& [name, entry] : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) { return a->offsets < b->offsets; });
  for (const Entry* entry : order)
    if (entry->offsets[1] > data_bytes)
      fail(file, "tensor '" + printable(entry->name) + "' ends at byte " + std::to_string(entry->offsets[1]) +
                     " of the data, but the file holds only " + std::to_string(data_bytes) +
                     "; it is truncated or corrupt, download it again");
  const Entry* before = nullptr;
  for (const Entry* entry : order) {
    const uint64_t expected = before ? before->offsets[1] : 0;
    if (entry->offsets[0] < expected)
      fail(file, "tensor '" + printable(entry->name) + "' overlaps tensor '" + printable(before->name) +
                     "': data_offsets " + numbers_text(entry->offsets) + " and " + numbers_text(before->offsets));
    if (entry->offsets[0] > expected)
      fail(file, "bytes " + std::to_string(expected) + " to " + std::to_string(entry->offsets[0]) +
                     " of the data, before tensor '" + printable(entry->name) + "', belong to no tensor");
    before = entry;
  }
  const uint64_t end = before ? before->offsets[1] : 0;
  if (end < data_bytes)
    fail(file, "the last " + std::to_string(data_bytes - end) + " bytes of the file belong to no tensor");
}

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  return numbers_text(std::vector<uint64_t>(shape.begin(), shape.end()));
}

std::map<std::string, StoredTensor> parse_safetensors(std::span<const std::byte> file,
                                                      const std::filesystem::path& name) {
  const std::string_view header = header_text(file, name);
  HeaderReader reader;
  reader.run(header, name.string());
  std::map<std::string, Entry> entries = reader.take();
  const std::span<const std::byte> data = file.subspan(sizeof(uint64_t) + header.size());
  check_tiling(entries, data.size(), name);
  std::map<std::string, StoredTensor> tensors;
  for (auto& [key, entry] : entries) {
    const TypeRow* type = find_type(entry.type_name);
    StoredTensor tensor{.type = type ? type->type : StoredType::kOther,
                        .type_name = std::move(entry.type_name),
                        .shape = {entry.shape.begin(), entry.shape.end()},
                        .file = name,
                        .data = data.subspan(entry.offsets[0], entry.offsets[1] - entry.offsets[0])};
    tensors.emplace_hint(tensors.end(), key, std::move(tensor));
  }
  return tensors;
}

}  // namespace shoal
