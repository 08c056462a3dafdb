// SPDX-License-Identifier: Apache-2.0
// shoal: the program. Exit codes: 0 done, 1 failed while running, 2 the user's input is wrong. Nothing else ends the process.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "apps/command.h"
#include "apps/flags.h"
#include "base/error.h"
#include "base/json_file.h"
#include "base/nearest.h"
#include "base/version.h"

namespace shoal {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongInput = 2;
constexpr size_t kShownBytes = 40;

std::vector<std::unique_ptr<Command>> commands() {
  std::vector<std::unique_ptr<Command>> list;
  list.push_back(generate_command());
  list.push_back(score_command());
  list.push_back(explain_command());
  list.push_back(serve_command());
  list.push_back(eplb_command());
  list.push_back(bench_command());
  return list;
}

// Before anything else is parsed: flags belong to commands.
void check_command(const std::vector<std::string>& arguments, const std::vector<std::unique_ptr<Command>>& list) {
  if (arguments.empty())
    throw Error(ErrorKind::kInvalid,
                "no command is given; there are generate, score, explain, serve, bench and eplb, each with --help");
  const std::string& name = arguments.front();
  if (name.starts_with('-')) return;  // --help, --version
  std::vector<KnownWord> known;
  for (const auto& command : list) {
    if (name == command->name()) return;
    known.push_back({command->name(), command->name()});
  }
  throw Error(ErrorKind::kInvalid, fmt::format("there is no command {}; the nearest is {}",
                                               printable(name, kShownBytes), nearest_word(name, known)));
}

// One line, whatever CLI11 says in several.
std::string one_line(const CLI::ParseError& error) {
  std::string text = error.what();
  for (char& c : text)
    if (c == '\n') c = ' ';
  return text + "; see --help";
}

int run(const std::vector<std::string>& arguments) {
  CLI::App app{"Serves large language models over many ranks.", "shoal"};
  app.set_version_flag("--version", fmt::format("shoal {}", kVersion));
  app.require_subcommand(1);
  const std::vector<std::unique_ptr<Command>> list = commands();
  check_command(arguments, list);
  for (const auto& command : list) {
    CLI::App* sub = app.add_subcommand(command->name(), command->summary());
    command->declare(*sub);
    if (command->takes_engine_options()) add_option_help(*sub);
  }
  const auto named =
      std::find_if(list.begin(), list.end(), [&](const auto& command) { return arguments.front() == command->name(); });
  const bool engine_options = named == list.end() || (*named)->takes_engine_options_with(arguments);
  const SplitArguments split = split_arguments(app, arguments, engine_options);
  try {
    parse_rest(app, split.rest);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorKind::kInvalid, one_line(error));
  }
  if (named == list.end()) return kWrongInput;
  if (!engine_options) return (*named)->run(EngineConfig{});
  return (*named)->run(load_engine_config(split.config_file, shoal_environment(), split.flags));
}

int report(int code, const char* text) {
  std::fflush(stdout);
  std::fprintf(stderr, "shoal: error: %s\n", text);
  return code;
}

}  // namespace
}  // namespace shoal

int main(int count, char** values) {
  try {
    return shoal::run(std::vector<std::string>(values + 1, values + count));
  } catch (const shoal::Error& error) {
    return shoal::report(shoal::kWrongInput, error.what());
  } catch (const std::bad_alloc&) {
    return shoal::report(shoal::kFailed, "out of memory");
  } catch (const std::exception& error) {
    return shoal::report(shoal::kFailed, error.what());
  }
}
