// SPDX-License-Identifier: Apache-2.0
#include "server/api/generation.h"

#include <fmt/format.h>

#include <charconv>
#include <functional>

#include "base/error.h"
#include "base/json_file.h"
#include "server/errors.h"

namespace shoal {
namespace {

constexpr size_t kMostTokens = size_t{1} << 24;  // of a prompt, before the engine's own limit
constexpr int64_t kMostGenerated = int64_t{1} << 31;
constexpr size_t kTailBytes = 64;

ApiError field_error(const std::string& code, const std::string& param, const std::string& text,
                     std::string hint = {}) {
  ApiError error(400, code, text);
  error.param = param;
  error.hint = std::move(hint);
  return error;
}

void read_logit_bias(Fields& fields, SamplingParams& params) {
  const Json* bias = fields.object("logit_bias");
  if (bias == nullptr) return;
  constexpr double kMostBias = 100;
  for (const auto& [key, value] : bias->items()) {
    int32_t id = -1;
    const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (problem != std::errc() || end != key.data() + key.size() || id < 0)
      throw field_error("invalid_value", "logit_bias", fmt::format("logit_bias: {} is no token id", printable(key)));
    if (!value.is_number() || !(std::abs(value.get<double>()) <= kMostBias))
      throw field_error("invalid_value", "logit_bias",
                        fmt::format("logit_bias of token {} is {}; it must be a number from -100 to 100", id,
                                    printable(value.dump())));
    params.logit_bias[id] = value.get<float>();
  }
}

void read_penalties(Fields& fields, SamplingParams& params) {
  constexpr double kMost = 2;
  const auto take = [&](const char* name, float& field, double min, double max) {
    if (const auto value = fields.number(name, min, max)) field = static_cast<float>(*value);
  };
  take("presence_penalty", params.presence_penalty, -kMost, kMost);
  take("frequency_penalty", params.frequency_penalty, -kMost, kMost);
  take("repetition_penalty", params.repetition_penalty, 0, Fields::kInfinity);
  if (params.repetition_penalty <= 0) fields.fail("repetition_penalty", "a number above 0");
}

void read_sampling(Fields& fields, const ApiLimits& limits, SamplingParams& params) {
  const auto take = [&](const char* name, float& field, double max) {
    if (const auto value = fields.number(name, 0, max)) field = static_cast<float>(*value);
  };
  take("temperature", params.temperature, Fields::kInfinity);
  take("top_p", params.top_p, 1);
  take("min_p", params.min_p, 1);
  if (params.top_p <= 0) fields.fail("top_p", "a number above 0, up to 1");
  if (const auto top_k = fields.integer("top_k", -1)) params.top_k = *top_k;
  params.top_k = std::max<int64_t>(0, params.top_k);  // -1, as elsewhere: off
  if (const auto seed = fields.integer("seed", std::numeric_limits<int64_t>::min()))
    params.seed = static_cast<uint64_t>(*seed);
  params.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  params.stop = fields.texts("stop", static_cast<size_t>(limits.max_stop));
  for (const std::string& stop : params.stop)
    if (stop.empty()) fields.fail("stop", "without empty strings");
  params.stop_token_ids = fields.token_ids("stop_token_ids", 1024);
  params.min_tokens = fields.integer("min_tokens", 0, kMostGenerated).value_or(0);
  params.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  read_penalties(fields, params);
  read_logit_bias(fields, params);
}

void read_stream(Fields& fields, Generation& request) {
  request.stream = fields.boolean("stream").value_or(false);
  const Json* options = fields.object("stream_options");
  if (options == nullptr) return;
  if (!request.stream) fields.fail("stream_options", "absent unless stream is true");
  Fields inner(*options, "stream_options.");
  request.include_usage = inner.boolean("include_usage").value_or(false);
  request.continuous_usage = inner.boolean("continuous_usage_stats").value_or(false);
  inner.ignore("include_obfuscation");
  for (const std::string& name : inner.unknown()) request.ignored.push_back(name);
}

void read_scheduling(Fields& fields, SchedulingParams& scheduling) {
  scheduling.priority = fields.number("priority", 0, 1).value_or(scheduling.priority);
  scheduling.cache_salt = fields.text("cache_salt").value_or(std::string());
  if (const auto rank = fields.integer("attention_dp_rank", 0, std::numeric_limits<int>::max()))
    scheduling.attention_dp_rank = static_cast<int>(*rank);
  scheduling.attention_dp_relax = fields.boolean("attention_dp_relax").value_or(true);
}

// What makes a grammar, with what is wrong told as this parameter's.
std::shared_ptr<const Grammar> compile(const ModelText& model, const std::string& param,
                                       const std::function<std::shared_ptr<const Grammar>(GrammarCompiler&)>& make) {
  need_tokenizer(model, param);
  try {
    return make(*model.grammars);
  } catch (const Error& error) {
    throw field_error("grammar_error", param, error.what(), "simplify the schema, or check the answer yourself");
  }
}

std::shared_ptr<const Grammar> compile_schema(const ModelText& model, const std::string& param, const Json& schema,
                                              const FreeReasoning& reasoning) {
  return compile(model, param,
                 [&](GrammarCompiler& compiler) { return compiler.json_schema(schema.dump(), reasoning); });
}

// OpenAI's response_format, and vLLM's older guided_json and newer structured_outputs.json.
void read_format(Fields& fields, const ModelText& model, const FreeReasoning& reasoning, SamplingParams& params) {
  if (const Json* schema = fields.any("guided_json"))
    params.constraint = compile_schema(model, "guided_json", *schema, reasoning);
  if (const Json* outputs = fields.object("structured_outputs")) {
    Fields inner(*outputs, "structured_outputs.");
    if (const Json* schema = inner.any("json"))
      params.constraint = compile_schema(model, "structured_outputs.json", *schema, reasoning);
    for (const std::string& name : inner.unknown())
      throw field_error("unsupported_parameter", name, name + " is not supported", "use structured_outputs.json");
  }
  const Json* format = fields.object("response_format");
  if (format == nullptr) return;
  Fields inner(*format, "response_format.");
  const std::string type = inner.text("type").value_or("");
  if (type == "text") return;
  if (type == "json_object") {
    params.constraint =
        compile(model, "response_format", [&](GrammarCompiler& compiler) { return compiler.json_object(reasoning); });
    return;
  }
  if (type != "json_schema") inner.fail("type", "text, json_object or json_schema");
  const Json* outer = inner.object("json_schema");
  if (outer == nullptr) inner.fail("json_schema", "an object with the schema");
  const std::string param = "response_format.json_schema.schema";
  const auto schema = outer->find("schema");
  if (schema == outer->end() || !(schema->is_object() || schema->is_boolean()))
    throw field_error("invalid_value", param, param + " must be a JSON Schema");
  params.constraint = compile_schema(model, param, *schema, reasoning);
}

// What OpenAI's clients may send and what means nothing here, known so that nobody is told of it.
void ignore_harmless(Fields& fields) {
  for (const char* name : {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
                           "prompt_cache_retention", "request_id", "verbosity"})
    fields.ignore(name);
}

void read_common(Fields& fields, const ModelText& model, const ApiLimits& limits, Generation& request) {
  request.model = fields.text("model").value_or(std::string());
  request.n = fields.integer("n", 1, limits.max_n).value_or(1);
  request.params = model.defaults;
  request.token_id_names = fields.boolean("return_tokens_as_token_ids").value_or(false);
  request.token_ids = fields.boolean("return_token_ids").value_or(false);
  read_stream(fields, request);
  read_sampling(fields, limits, request.params);
  read_scheduling(fields, request.scheduling);
  ignore_harmless(fields);
}

void note_unknown(const Fields& fields, const ApiLimits& limits, Generation& request) {
  for (std::string& name : fields.unknown()) request.ignored.push_back(std::move(name));
  if (request.ignored.empty() || !limits.strict) return;
  std::string names;  // all of them, so that a client mends its request once
  for (const std::string& name : request.ignored) names += (names.empty() ? "" : ", ") + printable(name);
  const bool one = request.ignored.size() == 1;
  throw field_error("unknown_field", request.ignored.front(),
                    fmt::format("this server does not know the {} {}", one ? "field" : "fields", printable(names, 400)),
                    fmt::format("leave {} out, or start the server without --strict-requests", one ? "it" : "them"));
}

void check_tokens(const Generation& request) {
  if (request.max_tokens && request.params.min_tokens > *request.max_tokens)
    throw field_error("invalid_value", "min_tokens",
                      fmt::format("min_tokens is {}, max_tokens {}: it must not be larger", request.params.min_tokens,
                                  *request.max_tokens));
}

// What a model that reasons may say before constrained text. The prompt's end may have begun the reasoning, or closed it.
FreeReasoning free_reasoning(const AssistantFormat& format, std::string_view prompt) {
  prompt = prompt.substr(0, prompt.find_last_not_of(" \t\r\n") + 1);
  if (format.think_begin.empty() || prompt.ends_with(format.think_end)) return {};
  return {.begin = format.think_begin, .end = format.think_end, .begun = prompt.ends_with(format.think_begin)};
}

void check_tools(const Json& tools) {
  for (size_t i = 0; i < tools.size(); ++i) {
    const Json function = tools[i].is_object() ? tools[i].value("function", Json()) : Json();
    const Json name = function.is_object() ? function.value("name", Json()) : Json();
    if (!name.is_string() || name.get_ref<const std::string&>().empty())
      throw field_error("invalid_value", fmt::format("tools[{}]", i),
                        R"(a tool must be {"type": "function", "function": {"name": …, "parameters": …}})");
  }
}

// The tools that may be called: all, or the one of that name.
Json chosen_tools(const Json& tools, const Json& choice) {
  if (choice.is_string()) return tools;
  const auto function = choice.find("function");
  if (choice.is_object() && function != choice.end() && function->is_object() && function->contains("name"))
    for (const Json& tool : tools)
      if (tool.is_object() && tool.contains("function") && tool["function"].is_object() &&
          tool["function"].value("name", Json()) == (*function)["name"])
        return Json::array({tool});
  throw field_error(
      "invalid_value", "tool_choice",
      "tool_choice must be auto, none, required, or {\"type\": \"function\", \"function\": {\"name\": …}} with "
      "the name of one of the tools");
}

void read_tools(Fields& fields, const ModelText& model, const FreeReasoning& reasoning, Generation& request) {
  const Json* tools = fields.array("tools");
  const Json* choice = fields.any("tool_choice");
  const bool parallel = fields.boolean("parallel_tool_calls").value_or(true);
  const bool calls = choice != nullptr && *choice != "auto" && *choice != "none";
  if (calls && (tools == nullptr || tools->empty()))
    throw field_error("invalid_value", "tool_choice", "tool_choice asks for a call, and the request has no tools");
  if (tools == nullptr || tools->empty() || (choice != nullptr && *choice == "none")) return;
  if (model.format.tools == ToolFormat::kNone)
    throw field_error("tools_not_supported", "tools", "this model's chat template knows no tools",
                      "serve a model trained for tool calls, or leave tools out");
  check_tools(*tools);
  request.tools = true;
  if (!calls) return;
  if (choice->is_string() && *choice != "required") chosen_tools(*tools, Json());
  const Json chosen = chosen_tools(*tools, *choice);
  request.params.constraint = compile(model, "tools", [&](GrammarCompiler& compiler) {
    return compiler.tool_calls(chosen, model.format, parallel && choice->is_string(), reasoning);
  });
}

}  // namespace

Generation read_chat(const Json& body, const ModelText& model, const ApiLimits& limits) {
  Fields fields(body);
  Generation request;
  request.chat = true;
  read_common(fields, model, limits, request);
  request.max_tokens = fields.integer("max_tokens", 1, kMostGenerated);
  if (const auto newer = fields.integer("max_completion_tokens", 1, kMostGenerated)) request.max_tokens = newer;
  check_tokens(request);
  request.logprobs = fields.boolean("logprobs").value_or(false);
  if (const auto top = fields.integer("top_logprobs", 0, limits.max_logprobs)) {
    if (!request.logprobs) fields.fail("top_logprobs", "absent unless logprobs is true");
    request.params.logprobs = *top;
  }
  RenderedChat chat = render_chat(fields, model);
  const FreeReasoning reasoning = free_reasoning(model.format, chat.text);
  read_format(fields, model, reasoning, request.params);
  read_tools(fields, model, reasoning, request);
  request.prompt_tail = chat.text.substr(chat.text.size() - std::min(chat.text.size(), kTailBytes));
  request.prompts.push_back(std::move(chat.ids));
  request.parse = request.tools || !model.format.think_begin.empty() || model.format.needs_special_tokens;
  if (request.parse && model.format.needs_special_tokens) request.params.skip_special_tokens = false;
  note_unknown(fields, limits, request);
  return request;
}

namespace {

// A string, token ids, or a list of either.
void read_prompt(Fields& fields, const ModelText& model, const ApiLimits& limits, Generation& request) {
  const Json* prompt = fields.any("prompt");
  const bool special = fields.boolean("add_special_tokens").value_or(true);
  const auto encode = [&](const Json& text) {
    return need_tokenizer(model, "prompt").encode(text.get_ref<const std::string&>(), special);
  };
  const std::string rule = "a string, a list of strings, a list of token ids, or a list of those";
  if (prompt == nullptr) fields.fail("prompt", rule);
  if (prompt->is_string()) {
    request.prompts.push_back(encode(*prompt));
    return;
  }
  if (!prompt->is_array() || prompt->empty()) fields.fail("prompt", rule);
  if (prompt->front().is_number()) {
    request.prompts.push_back(fields.token_ids("prompt", kMostTokens));
    return;
  }
  if (std::ssize(*prompt) > limits.max_prompts)
    fields.fail("prompt", fmt::format("{} prompts at most", limits.max_prompts));
  for (const Json& item : *prompt) {
    if (item.is_string()) {
      request.prompts.push_back(encode(item));
    } else if (item.is_array()) {
      const Json one = {{"prompt", item}};
      request.prompts.push_back(Fields(one).token_ids("prompt", kMostTokens));
    } else {
      fields.fail("prompt", rule);
    }
  }
}

// A text as it was given, token ids as they decode.
void note_prompt_texts(const Json& prompt, const ModelText& model, Generation& request) {
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    const Json& given = prompt.is_array() && !prompt.front().is_number() ? prompt[i] : prompt;
    if (given.is_string()) {
      request.prompt_texts.push_back(given.get<std::string>());
    } else {  // without a tokenizer there is no text, only what is told of the tokens
      request.prompt_texts.push_back(model.tokenizer ? model.tokenizer->decode(request.prompts[i], false)
                                                     : std::string());
    }
  }
}

}  // namespace

Generation read_completion(const Json& body, const ModelText& model, const ApiLimits& limits) {
  constexpr int64_t kDefaultTokens = 16;  // OpenAI's
  Fields fields(body);
  Generation request;
  read_common(fields, model, limits, request);
  request.max_tokens = fields.integer("max_tokens", 0, kMostGenerated).value_or(kDefaultTokens);
  check_tokens(request);
  request.echo = fields.boolean("echo").value_or(false);
  const Json* logprobs = fields.any("logprobs");
  if (logprobs != nullptr && !logprobs->is_boolean()) {
    request.params.logprobs = *fields.integer("logprobs", 0, limits.max_logprobs);
    request.logprobs = true;
  } else if (logprobs != nullptr) {
    request.logprobs = logprobs->get<bool>();
  }
  const auto best_of = fields.integer("best_of", 1, limits.max_n);
  if (best_of && *best_of != request.n)
    throw field_error("unsupported_parameter", "best_of", "best_of other than n is not supported", "leave best_of out");
  if (!fields.text("suffix").value_or("").empty())
    throw field_error("unsupported_parameter", "suffix", "suffix is not supported", "leave suffix out");
  read_format(fields, model, {}, request.params);
  read_prompt(fields, model, limits, request);
  if (request.echo) note_prompt_texts(body.at("prompt"), model, request);
  note_unknown(fields, limits, request);
  return request;
}

const Tokenizer& need_tokenizer(const ModelText& model, const std::string& param) {
  if (!model.tokenizer)
    throw field_error("unsupported_parameter", param,
                      "text in " + param + " needs the model's tokenizer.json, which is missing",
                      "use /v1/completions with token ids");
  return *model.tokenizer;
}

}  // namespace shoal
