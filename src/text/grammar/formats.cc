// SPDX-License-Identifier: Apache-2.0
#include "text/grammar/formats.h"

#include <map>

namespace shoal::text {
namespace {

const std::string kYear = "[12][0-9]{3}";
const std::string kLeapYear = "([12][0-9](0[48]|[2468][048]|[13579][26])|(1[26]|2[048])00)";
const std::string kDate = "(" + kYear + "-(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|" + kYear +
                          "-(0[469]|11)-(0[1-9]|[12][0-9]|30)|" + kYear + "-02-(0[1-9]|1[0-9]|2[0-8])|" + kLeapYear +
                          "-02-29)";
const std::string kHour = "([01][0-9]|2[0-3])";
const std::string kTime = kHour + ":[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]" + kHour + ":[0-5][0-9])";
const std::string kLabel = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
const std::string kHostname = kLabel + "(\\." + kLabel + "){0,7}";
const std::string kAtom = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,64}";
const std::string kEmail = kAtom + "(\\." + kAtom + "){0,7}@" + kLabel + "(\\." + kLabel + "){1,7}";
const std::string kByte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const std::string kIpv4 = kByte + "(\\." + kByte + "){3}";
const std::string kGroup = "[0-9a-fA-F]{1,4}";

// Eight groups, or fewer around one "::".
std::string ipv6() {
  std::string pattern = kGroup + "(:" + kGroup + "){7}";
  for (int before = 0; before <= 7; ++before) {
    pattern += "|";
    if (before > 0) pattern += kGroup + "(:" + kGroup + "){" + std::to_string(before - 1) + "}";
    pattern += "::";
    if (before < 7) pattern += "(" + kGroup + "(:" + kGroup + "){0," + std::to_string(6 - before) + "})?";
  }
  return "(" + pattern + ")";
}

const std::string kUriCharacter = "([a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})";
const std::string kPath = "(/" + kUriCharacter + "*)*";
const std::string kQueryAndFragment = "(\\?(" + kUriCharacter + "|[/?])*)?(#(" + kUriCharacter + "|[/?])*)?";
const std::string kUri = "[a-zA-Z][a-zA-Z0-9+.-]{0,15}://([a-zA-Z0-9._~-]+@)?" + kLabel + "(\\." + kLabel +
                         "){0,7}(:[0-9]{1,5})?" + kPath + kQueryAndFragment;
const std::string kUriReference = "(" + kUri + "|" + kPath + kQueryAndFragment + ")";
const std::string kDuration =
    "P([0-9]{1,9}W|([0-9]{1,9}Y)?([0-9]{1,9}M)?[0-9]{1,9}DT?([0-9]{1,9}[HMS])|[0-9]{1,9}[YMD]|"
    "[0-9]{1,9}Y[0-9]{1,9}M([0-9]{1,9}D)?|[0-9]{1,9}M[0-9]{1,9}D|T[0-9]{1,9}[HMS]|T[0-9]{1,9}H[0-9]{1,9}M([0-9]{1,9}S)?"
    "|"
    "T[0-9]{1,9}M[0-9]{1,9}S)";

const std::map<std::string, std::string, std::less<>>& formats() {
  static const std::map<std::string, std::string, std::less<>> all = {
      {"date", kDate},
      {"time", kTime},
      {"date-time", kDate + "T" + kTime},
      {"duration", kDuration},
      {"email", kEmail},
      {"hostname", kHostname},
      {"ipv4", kIpv4},
      {"ipv6", ipv6()},
      {"uuid", "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"},
      {"uri", kUri},
      {"uri-reference", kUriReference},
      {"json-pointer", "(/([^/~]|~[01])*)*"},
  };
  return all;
}

constexpr std::string_view kFree[] = {
    "password",      "byte",      "binary",       "path",         "file-path",   "directory-path", "regex", "iri",
    "iri-reference", "idn-email", "idn-hostname", "uri-template", "json-string", "markdown",       "text",  "html"};

}  // namespace

std::optional<std::string> format_pattern(std::string_view format) {
  const auto found = formats().find(format);
  if (found != formats().end()) return "^" + found->second + "$";
  for (const std::string_view free : kFree)
    if (free == format) return "";
  return std::nullopt;
}

std::string known_formats() {
  std::string names;
  for (const auto& [name, pattern] : formats()) names += (names.empty() ? "" : ", ") + name;
  return names;
}

}  // namespace shoal::text
