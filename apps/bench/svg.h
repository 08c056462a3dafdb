// SPDX-License-Identifier: Apache-2.0
// Plots as SVG text, without scripts; colours are classes (c0, c1, ...) of the page that holds them.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal::bench {

// & < > " ' as entities; control and ill-formed bytes as '?'.
std::string escape_html(std::string_view text);

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // ascending x
};

struct Chart {
  std::string title;
  std::string x_unit;
  std::string y_unit;
  double y_most = 0;   // 0: from the data
  bool steps = false;  // horizontal until the next point
};
// Lines over one pair of axes, both from 0 (x from the data's least if that is far off). Thinned to what can be seen.
std::string line_chart(const Chart& chart, const std::vector<Series>& series);

// One lane each, from the top: coloured spans along the same time.
struct Span {
  double from = 0;
  double to = 0;
  int colour = 0;
};
struct Lane {
  std::string label;  // shown by the pointer
  std::vector<Span> spans;
};
std::string lane_chart(const std::string& title, const std::vector<Lane>& lanes);

// Round numbers from 0 to `most`, at most `count` of them.
std::vector<double> axis_ticks(double most, int count);

}  // namespace shoal::bench
