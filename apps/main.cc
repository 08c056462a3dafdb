// SPDX-License-Identifier: Apache-2.0
// shoal: the program. Exit codes: 0 done, 1 failed while running, 2 the user's input is wrong. Nothing else ends the process.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "apps/command.h"
#include "apps/flags.h"
#include "base/error.h"

namespace shoal {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongInput = 2;
constexpr const char* kVersion = "shoal 0.1.0";

std::vector<std::unique_ptr<Command>> commands() {
  std::vector<std::unique_ptr<Command>> list;
  list.push_back(generate_command());
  list.push_back(score_command());
  list.push_back(explain_command());
  return list;
}

void refuse_planned_command(const std::vector<std::string>& arguments) {
  for (const char* planned : {"serve", "bench", "eplb"}) {
    if (arguments.empty() || arguments.front() != planned) continue;
    throw Error(ErrorKind::kUnsupported,
                fmt::format("shoal {} is not built yet; there are generate, score and explain", planned));
  }
}

// One line, whatever CLI11 says in several.
std::string one_line(const CLI::ParseError& error) {
  std::string text = error.what();
  for (char& c : text)
    if (c == '\n') c = ' ';
  return text + "; see --help";
}

int run(const std::vector<std::string>& arguments) {
  refuse_planned_command(arguments);
  CLI::App app{"Serves large language models over many ranks.", "shoal"};
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  const std::vector<std::unique_ptr<Command>> list = commands();
  for (const auto& command : list) {
    CLI::App* sub = app.add_subcommand(command->name(), command->summary());
    command->declare(*sub);
    add_option_help(*sub);
  }
  const SplitArguments split = split_arguments(app, arguments);
  try {
    parse_rest(app, split.rest);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorKind::kInvalid, one_line(error));
  }
  const EngineConfig config = load_engine_config(split.config_file, shoal_environment(), split.flags);
  for (const auto& command : list)
    if (app.got_subcommand(command->name())) return command->run(config);
  return kWrongInput;
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
