// SPDX-License-Identifier: Apache-2.0
// What every command has: its flags, and a run that returns the exit code. Errors are exceptions; main turns them into codes.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine_config.h"

namespace shoal {

class Command {
 public:
  virtual ~Command() = default;
  virtual const char* name() const = 0;
  virtual const char* summary() const = 0;  // one line of --help
  virtual void declare(CLI::App& app) = 0;
  // Whether the engine's options may be given; run() gets the defaults otherwise.
  virtual bool takes_engine_options() const { return true; }
  // The same with these arguments, the command's name first: its parts may differ.
  virtual bool takes_engine_options_with(const std::vector<std::string>& /*arguments*/) const {
    return takes_engine_options();
  }
  virtual int run(const EngineConfig& config) = 0;
};

std::unique_ptr<Command> generate_command();
std::unique_ptr<Command> score_command();
std::unique_ptr<Command> explain_command();
std::unique_ptr<Command> serve_command();
std::unique_ptr<Command> eplb_command();
std::unique_ptr<Command> bench_command();

}  // namespace shoal
