// SPDX-License-Identifier: Apache-2.0
#include "tests/cli/run_shoal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

namespace shoal::cli {
namespace {

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

[[noreturn]] void become_shoal(const std::vector<std::string>& arguments,
                               const std::map<std::string, std::string>& environment, const std::string& out,
                               const std::string& err) {
  const int none = open("/dev/null", O_RDONLY);
  const int out_file = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int err_file = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(none, STDIN_FILENO);
  dup2(out_file, STDOUT_FILENO);
  dup2(err_file, STDERR_FILENO);
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> values = {const_cast<char*>(SHOAL_BINARY)};
  for (const std::string& argument : arguments) values.push_back(const_cast<char*>(argument.c_str()));
  values.push_back(nullptr);
  execv(SHOAL_BINARY, values.data());
  _exit(127);
}

}  // namespace

Outcome run_shoal(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& environment) {
  const Scratch scratch;
  const std::string out = scratch.path("out"), err = scratch.path("err");
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child == 0) become_shoal(arguments, environment, out, err);
  int status = 0;
  waitpid(child, &status, 0);
  return {.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          .out = read_all(out),
          .err = read_all(err)};
}

Scratch::Scratch() {
  std::string name = (std::filesystem::temp_directory_path() / "shoal_cli_XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary directory");
  directory_ = name;
}

Scratch::~Scratch() { std::filesystem::remove_all(directory_); }

}  // namespace shoal::cli
