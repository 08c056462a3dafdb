// SPDX-License-Identifier: Apache-2.0
#include "text/tool_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "text/tool_json.h"
#include "text/tool_text.h"

namespace shoal {
namespace {

using text::CallObject;
using text::JsonSpan;

constexpr std::string_view kBlanks = " \t\r\n";

// Marks of one format: those that begin calls, those that stand around and behind them, and those that end a call's header.
struct Markup {
  std::vector<std::string_view> begin, around;
  std::string_view header_end;
};

const Markup& markup_of(ToolFormat format) {
  static const std::array<Markup, 9> all = [] {
    std::array<Markup, 9> made;
    const auto at = [&](ToolFormat f) -> Markup& { return made[static_cast<size_t>(f)]; };
    at(ToolFormat::kHermes) = at(ToolFormat::kTagged) = {{"<tool_call>"}, {"</tool_call>"}, {}};
    at(ToolFormat::kLlamaJson) = {{"<|python_tag|>"}, {";", "<|eom_id|>", "<|eot_id|>"}, {}};
    at(ToolFormat::kLlamaPythonic) = {{"<|python_start|>"}, {"<|python_end|>", "<|eom|>", "<|eot|>"}, {}};
    at(ToolFormat::kDeepSeek) = {{"<｜tool▁call▁begin｜>"},
                                 {"<｜tool▁calls▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "```"},
                                 "<｜tool▁sep｜>"};
    at(ToolFormat::kMistral) = {{"[TOOL_CALLS]"}, {",", "]"}, "[ARGS]"};
    at(ToolFormat::kKimi) = {{"<|tool_call_begin|>"},
                             {"<|tool_calls_section_begin|>", "<|tool_call_end|>", "<|tool_calls_section_end|>"},
                             "<|tool_call_argument_begin|>"};
    return made;
  }();
  return all[static_cast<size_t>(format)];
}

struct Found {
  size_t at;              // of the first mark; or how much of the text is certainly free of marks
  std::string_view mark;  // empty: none
};

Found find_mark(std::string_view text, const std::vector<std::string_view>& marks) {
  Found first{text.size(), {}};
  size_t free = text.size();
  for (const std::string_view mark : marks) {
    const size_t at = text.find(mark);
    if (at < first.at) first = {at, mark};
    for (size_t length = std::min(mark.size() - 1, text.size()); length > 0; --length)
      if (text.ends_with(mark.substr(0, length))) {
        free = std::min(free, text.size() - length);
        break;
      }
  }
  if (first.mark.empty()) first.at = free;
  return first;
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(kBlanks), text.size());
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

// Of a call, from the answer's seed: letters and digits, nine for Mistral's templates, which ask for that.
std::string make_id(std::string_view seed, size_t index, ToolFormat format) {
  uint64_t hash = 14695981039346656037u + index * 0x9E3779B97F4A7C15u;
  for (const char c : seed) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  hash ^= hash >> 31;
  const std::string digits = fmt::format("{:016x}", hash * 0xBF58476D1CE4E5B9u);
  return format == ToolFormat::kMistral ? digits.substr(0, 9) : "call_" + digits;
}

}  // namespace

AssistantFormat assistant_format(std::string_view source) {
  const auto has = [&](std::string_view mark) { return source.find(mark) != std::string_view::npos; };
  AssistantFormat format;
  if (has("<|channel|>") && has("<|message|>")) {
    format.tools = ToolFormat::kHarmony;
  } else if (has("<｜tool▁call▁begin｜>")) {
    format.tools = ToolFormat::kDeepSeek;
    format.json_fence = has("```json");
  } else if (has("<|tool_call_begin|>")) {
    format.tools = ToolFormat::kKimi;
  } else if (has("<tool_call>")) {
    format.tools = has("<arg_key>") || has("<function=") ? ToolFormat::kTagged : ToolFormat::kHermes;
  } else if (has("[TOOL_CALLS]")) {
    format.tools = ToolFormat::kMistral;
  } else if (has("func_name1(")) {
    format.tools = ToolFormat::kLlamaPythonic;
  } else if (has("<|python_tag|>") || has("\"parameters\": dictionary")) {
    format.tools = ToolFormat::kLlamaJson;
  }
  format.needs_special_tokens =
      format.tools != ToolFormat::kNone && format.tools != ToolFormat::kHermes && format.tools != ToolFormat::kTagged;
  if (has("</think>")) format.think_begin = "<think>", format.think_end = "</think>";
  return format;
}

bool reasoning_begun(const AssistantFormat& format, std::string_view prompt_tail) {
  return !format.think_begin.empty() && trimmed(prompt_tail).ends_with(format.think_begin);
}

struct AssistantParser::Impl {
  enum class Mode : uint8_t {
    kStart,  // nothing but blanks so far: reasoning, or a call without a mark, may begin
    kReasoning,
    kContent,
    kMarked,     // behind a mark that begins a call
    kObject,     // in a call that is one JSON object
    kName,       // in the second line of DeepSeek-V3's header
    kArguments,  // in a JSON object behind a header
    kHeld,       // in a call that is read when it is complete
    kBetween,    // behind a call
    kChannel,    // in the header of a harmony message
    kMessage,    // in its body
  };

  AssistantDelta read(std::string_view piece, bool last) {
    delta = {};
    buffer += piece;
    ended = last;
    while (advance()) {
    }
    if (ended && calls == 0) delta.content += std::exchange(blanks, {});
    return std::move(delta);
  }

  // One move of the machine; false: more text is needed.
  bool advance() {
    switch (mode) {
      case Mode::kStart:
        return start();
      case Mode::kReasoning:
        return reasoning();
      case Mode::kContent:
        return content();
      case Mode::kMarked:
        return marked();
      case Mode::kObject:
        return object();
      case Mode::kName:
        return header("\n");
      case Mode::kArguments:
        return arguments();
      case Mode::kHeld:
        return held();
      case Mode::kBetween:
        return between();
      case Mode::kChannel:
        return channel();
      case Mode::kMessage:
        return message();
    }
    return false;
  }

  bool go(Mode next) {
    mode = next;
    return true;
  }
  std::string take(size_t length) {
    std::string text = buffer.substr(0, length);
    buffer.erase(0, length);
    return text;
  }
  bool may_become(std::string_view mark) const {
    return !ended && buffer.size() < mark.size() && mark.substr(0, buffer.size()) == buffer;
  }
  void begin_call(std::string name, std::string id = {}) {
    if (id.empty()) id = make_id(seed, calls, format.tools);
    delta.tool_calls.push_back({.index = calls++, .id = std::move(id), .name = std::move(name), .arguments = {}});
  }
  void add_arguments(const std::string& piece) {
    if (piece.empty()) return;
    if (delta.tool_calls.empty() || delta.tool_calls.back().index + 1 != calls)
      delta.tool_calls.push_back({.index = calls - 1, .id = {}, .name = {}, .arguments = {}});
    delta.tool_calls.back().arguments += piece;
  }
  // Blanks in front of content are given out with it, and not at all if a call follows.
  void add_content(const std::string& piece) {
    const size_t begin = piece.find_first_not_of(kBlanks);
    if (begin == std::string::npos && !saw_content) {
      blanks += piece;
      return;
    }
    if (!piece.empty()) delta.content += std::exchange(blanks, {}) + piece;
    saw_content |= !piece.empty();
  }

  bool start() {
    const size_t begin = buffer.find_first_not_of(kBlanks);
    if (begin == std::string::npos) {
      if (ended) add_content(take(buffer.size()));
      return false;
    }
    blanks += take(begin);
    const std::string_view think = format.think_begin;
    if (!think.empty() && buffer.starts_with(think)) {
      buffer.erase(0, think.size());
      blanks.clear();
      return go(Mode::kReasoning);
    }
    if (!think.empty() && may_become(think)) return false;
    if (tools && format.tools == ToolFormat::kLlamaJson && buffer.front() == '{') return begin_object();
    if (tools && format.tools == ToolFormat::kLlamaPythonic && buffer.front() == '[') return go(Mode::kHeld);
    return go(Mode::kContent);
  }

  // Blanks around reasoning belong to the marks.
  bool reasoning() {
    if (!saw_reasoning) buffer.erase(0, std::min(buffer.find_first_not_of(kBlanks), buffer.size()));
    const auto [at, mark] = find_mark(buffer, {format.think_end});
    size_t length = ended && mark.empty() ? buffer.size() : at;
    const size_t solid = std::string_view(buffer).substr(0, length).find_last_not_of(kBlanks) + 1;
    delta.reasoning += take(solid);
    saw_reasoning |= solid > 0;
    if (mark.empty()) return false;
    buffer.erase(0, at - solid + mark.size());
    blanks.clear();
    skip_blanks = true;
    return go(Mode::kBetween);
  }

  bool content() {
    static const std::vector<std::string_view> none;
    std::vector<std::string_view> marks = tools ? markup_of(format.tools).begin : none;
    if (tools && format.tools == ToolFormat::kDeepSeek) marks.push_back(markup_of(format.tools).around.front());
    if (tools && format.tools == ToolFormat::kKimi) marks.push_back(markup_of(format.tools).around.front());
    const auto [at, mark] = find_mark(buffer, marks);
    add_content(take(ended && mark.empty() ? buffer.size() : at));
    if (mark.empty()) return false;
    blanks.clear();
    buffer.erase(0, mark.size());
    raw = mark;
    const bool around = mark != markup_of(format.tools).begin.front();
    return go(around ? Mode::kBetween : Mode::kMarked);
  }

  bool marked() {
    const size_t begin = buffer.find_first_not_of(kBlanks);
    if (begin == std::string::npos) return ended && give_up();
    switch (format.tools) {
      case ToolFormat::kDeepSeek:
      case ToolFormat::kKimi:
        return header(markup_of(format.tools).header_end);
      case ToolFormat::kMistral:
        if (buffer[begin] == '[') {
          buffer.erase(0, begin + 1);
          raw.clear();
          return go(Mode::kBetween);
        }
        return header(markup_of(format.tools).header_end);
      case ToolFormat::kLlamaPythonic:
        return go(Mode::kHeld);
      default:
        break;
    }
    return buffer[begin] == '{' ? begin_object() : go(Mode::kHeld);
  }

  bool begin_object() {
    call = {};
    return go(Mode::kObject);
  }

  bool object() {
    for (size_t i = 0; i < buffer.size(); ++i) {
      const bool named = call.has_name();
      const CallObject::State state = call.feed(buffer[i]);
      if (state == CallObject::State::kNoCall) {
        if (call.has_name()) buffer.erase(0, i);  // belongs to the call that is out, however the text came
        return give_up();
      }
      if (!named && call.has_name()) begin_call(call.name());
      if (state != CallObject::State::kDone) continue;
      add_arguments(call.take_arguments());
      buffer.erase(0, i + 1);
      raw.clear();
      return go(Mode::kBetween);
    }
    raw += take(buffer.size());
    add_arguments(call.take_arguments());
    return ended && give_up();
  }

  // What was taken for a call comes out as content, read anew from its second character on, unless the call's name is out already.
  bool give_up() {
    if (mode == Mode::kObject && call.has_name()) {
      add_arguments(call.take_arguments());
      raw.clear();
      return go(Mode::kContent);
    }
    buffer.insert(0, std::exchange(raw, {}));
    add_content(take(1));
    return go(Mode::kContent);
  }

  // A call's name, up to `end`.
  bool header(std::string_view end) {
    const size_t at = buffer.find(end);
    if (at == std::string::npos) {
      if (!ended) return false;
      raw += take(buffer.size());
      return give_up();
    }
    const std::string written = take(at + end.size());
    const std::string text(trimmed(std::string_view(written).substr(0, at)));
    if (format.tools == ToolFormat::kDeepSeek && mode == Mode::kMarked && text == "function") return go(Mode::kName);
    std::string name = text, id;
    if (format.tools == ToolFormat::kKimi) {
      id = text;
      if (name.starts_with("functions.")) name.erase(0, 10);
      name.erase(std::min(name.rfind(':'), name.size()));
    }
    if (const size_t call_id = name.find("[CALL_ID]"); call_id != std::string::npos) name.erase(call_id);
    if (name.empty()) {
      raw += written;
      return give_up();
    }
    begin_call(std::move(name), std::move(id));
    span = {};
    return go(Mode::kArguments);
  }

  bool arguments() {
    if (!span.begun()) buffer.erase(0, std::min(buffer.find('{'), buffer.size()));  // ```json
    for (size_t i = 0; i < buffer.size(); ++i) {
      if (span.feed(buffer[i]) != JsonSpan::Place::kLast) continue;
      add_arguments(take(i + 1));
      return go(Mode::kBetween);
    }
    add_arguments(take(buffer.size()));
    if (ended && !span.begun()) add_arguments("{}");
    return false;
  }

  // A call in Python or in tags.
  bool held() {
    const bool python = format.tools == ToolFormat::kLlamaPythonic;
    const auto [at, mark] = find_mark(buffer, markup_of(format.tools).around);
    if (mark.empty() && !ended) return false;
    const size_t length = mark.empty() ? buffer.size() : at;
    const std::string_view text = std::string_view(buffer).substr(0, length);
    std::vector<text::WrittenCall> written;
    if (python) {
      if (auto list = text::parse_python_calls(trimmed(text))) written = std::move(*list);
    } else if (auto one = text::parse_tagged_call(text)) {
      written.push_back(std::move(*one));
    }
    if (written.empty()) {
      raw += take(length);
      return give_up();
    }
    for (text::WrittenCall& one : written) {
      begin_call(std::move(one.name));
      add_arguments(one.arguments.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    }
    buffer.erase(0, length);
    raw.clear();
    return go(Mode::kBetween);
  }

  // Skips blanks and marks behind a call, until another or content begins.
  bool between() {
    const size_t begin = buffer.find_first_not_of(kBlanks);
    buffer.erase(0, std::min(begin, buffer.size()));
    if (buffer.empty()) return false;
    const bool objects = format.tools == ToolFormat::kLlamaJson || format.tools == ToolFormat::kMistral;
    if (tools && !std::exchange(skip_blanks, false)) {
      for (const std::string_view mark : markup_of(format.tools).around) {
        if (buffer.starts_with(mark)) {
          buffer.erase(0, mark.size());
          return true;
        }
        if (may_become(mark)) return false;
      }
      if (objects && buffer.front() == '{') return begin_object();
      return go(Mode::kContent);
    }
    return go(Mode::kStart);
  }

  // --- harmony

  bool channel() {
    if (!saw_header && !buffer.starts_with("<|") && !buffer.starts_with(" to=") && !may_become("<|") &&
        !may_become(" to=")) {
      channel_name = "final";
      return go(Mode::kMessage);
    }
    constexpr std::string_view kMessageMark = "<|message|>";
    const size_t at = buffer.find(kMessageMark);
    if (at == std::string::npos) return false;
    saw_header = true;
    const std::string header = take(at);
    buffer.erase(0, kMessageMark.size());
    constexpr std::string_view kChannelMark = "<|channel|>", kTo = "to=functions.";
    const size_t name = header.find(kChannelMark);
    const auto word = [&](size_t from) { return header.substr(from, header.find_first_of(" <\n", from) - from); };
    channel_name = name == std::string::npos ? "final" : word(name + kChannelMark.size());
    const size_t to = header.find(kTo);
    const std::string callee = to == std::string::npos ? std::string() : word(to + kTo.size());
    calling = !callee.empty();
    if (calling) begin_call(callee);
    return go(Mode::kMessage);
  }

  bool message() {
    static const std::vector<std::string_view> ends = {"<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>"};
    const auto [at, mark] = find_mark(buffer, ends);
    const std::string piece = take(ended && mark.empty() ? buffer.size() : at);
    if (calling) {
      add_arguments(piece);
    } else if (channel_name == "analysis") {
      delta.reasoning += piece;
    } else {
      add_content(piece);
    }
    if (mark.empty()) return false;
    if (mark != "<|channel|>") buffer.erase(0, mark.size());
    calling = false;
    return go(Mode::kChannel);
  }

  AssistantFormat format;
  bool tools = false;
  std::string seed;
  Mode mode = Mode::kStart;
  std::string buffer;  // not yet given out
  std::string raw;     // taken out of it for a call that may turn out to be none
  std::string blanks;
  AssistantDelta delta;
  CallObject call;
  JsonSpan span;
  std::string channel_name;
  size_t calls = 0;
  bool ended = false, saw_content = false, saw_reasoning = false, saw_header = false, calling = false,
       skip_blanks = false;
};

AssistantParser::AssistantParser(const AssistantFormat& format, std::string_view prompt_tail, bool tools,
                                 std::string_view id_seed)
    : impl_(std::make_unique<Impl>()) {
  impl_->format = format;
  impl_->tools = tools && format.tools != ToolFormat::kNone;
  impl_->seed = id_seed;
  if (format.tools == ToolFormat::kHarmony) impl_->mode = Impl::Mode::kChannel;
  if (reasoning_begun(format, prompt_tail)) impl_->mode = Impl::Mode::kReasoning;
}
AssistantParser::~AssistantParser() = default;
AssistantParser::AssistantParser(AssistantParser&&) noexcept = default;

AssistantDelta AssistantParser::push(std::string_view text) { return impl_->read(text, false); }
AssistantDelta AssistantParser::finish() { return impl_->read({}, true); }
bool AssistantParser::called_tools() const { return impl_->calls > 0; }

}  // namespace shoal
