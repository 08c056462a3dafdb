// SPDX-License-Identifier: Apache-2.0
#include "apps/bench/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/json_file.h"

namespace shoal::bench {
namespace {

constexpr double kWidth = 460, kHeight = 220;
constexpr double kLeft = 56, kRight = 12, kTop = 26, kBottom = 34;
constexpr double kWide = 940;
constexpr double kKeyWidth = 70;
constexpr size_t kMostPoints = 400;
constexpr int kTicks = 5;

// Points of a curve that a screen can tell apart: the first, the last, and evenly chosen ones between.
std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points) {
  if (points.size() <= kMostPoints) return points;
  std::vector<std::pair<double, double>> kept;
  for (size_t i = 0; i < kMostPoints; ++i) kept.push_back(points[i * (points.size() - 1) / (kMostPoints - 1)]);
  return kept;
}

class Axes {
 public:
  Axes(double x_most, double y_most) : x_most_(x_most > 0 ? x_most : 1), y_most_(y_most > 0 ? y_most : 1) {}
  double x(double value) const { return kLeft + value / x_most_ * (kWidth - kLeft - kRight); }
  double y(double value) const { return kHeight - kBottom - value / y_most_ * (kHeight - kTop - kBottom); }

  std::string frame(const Chart& chart) const {
    std::string svg;
    for (const double tick : axis_ticks(y_most_, kTicks)) {
      svg += fmt::format(R"(<line class="grid" x1="{0:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{2:.1f}"/>)", kLeft,
                         kWidth - kRight, y(tick));
      svg += fmt::format(R"(<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="end">{:g}</text>)", kLeft - 6,
                         y(tick) + 4, tick);
    }
    for (const double tick : axis_ticks(x_most_, kTicks)) {
      svg += fmt::format(R"(<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="middle">{:g}</text>)", x(tick),
                         kHeight - kBottom + 16, tick);
    }
    svg += fmt::format(R"(<text class="title" x="2" y="16">{}<tspan class="unit">{}</tspan></text>)",
                       escape_html(chart.title), chart.y_unit.empty() ? "" : ", " + escape_html(chart.y_unit));
    svg += fmt::format(R"(<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>)", kWidth - kRight,
                       kHeight - 4, escape_html(chart.x_unit));
    return svg;
  }

 private:
  double x_most_, y_most_;
};

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : printable(text, text.size())) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::vector<double> axis_ticks(double most, int count) {
  if (!(most > 0) || !std::isfinite(most)) return {0};
  const double raw = most / count;
  const double magnitude = std::pow(10, std::floor(std::log10(raw)));
  double step = magnitude;
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    step = factor * magnitude;
    if (step >= raw * (1 - 1e-9)) break;
  }
  std::vector<double> ticks;
  for (int i = 0; i * step <= most * (1 + 1e-9); ++i) ticks.push_back(i * step);
  return ticks;
}

std::string line_chart(const Chart& chart, const std::vector<Series>& series) {
  double x_most = 0, y_most = chart.y_most;
  for (const Series& line : series) {
    for (const auto& [x, y] : line.points) {
      x_most = std::max(x_most, x);
      if (chart.y_most == 0) y_most = std::max(y_most, y);
    }
  }
  const Axes axes(x_most, y_most);
  std::string svg =
      fmt::format(R"(<svg viewBox="0 0 {} {}" role="img" aria-label="{}">)", kWidth, kHeight, escape_html(chart.title));
  svg += axes.frame(chart);
  for (size_t i = 0; i < series.size(); ++i) {
    std::string points;
    double last = 0;
    for (const auto& [x, y] : thinned(series[i].points)) {
      if (chart.steps && !points.empty()) points += fmt::format("{:.1f},{:.1f} ", axes.x(x), axes.y(last));
      points += fmt::format("{:.1f},{:.1f} ", axes.x(x), axes.y(y));
      last = y;
    }
    svg += fmt::format(R"(<polyline class="line c{}" points="{}"><title>{}</title></polyline>)", i, points,
                       escape_html(series[i].name));
    if (series.size() > 1)
      svg += fmt::format(R"(<text class="key c{}" x="{:.1f}" y="16" text-anchor="end">{}</text>)", i,
                         kWidth - kRight - kKeyWidth * static_cast<double>(series.size() - 1 - i),
                         escape_html(series[i].name));
  }
  return svg + "</svg>";
}

std::string lane_chart(const std::string& title, const std::vector<Lane>& lanes) {
  double most = 0;
  for (const Lane& lane : lanes)
    for (const Span& span : lane.spans) most = std::max(most, span.to);
  if (most <= 0) most = 1;
  const double pitch = std::clamp(480.0 / static_cast<double>(std::max<size_t>(1, lanes.size())), 1.0, 12.0);
  const double height = kTop + pitch * static_cast<double>(lanes.size()) + kBottom;
  const auto x = [&](double seconds) { return kLeft + seconds / most * (kWide - kLeft - kRight); };
  std::string svg = fmt::format(R"(<svg class="wide" viewBox="0 0 {} {:.1f}" role="img" aria-label="{}">)", kWide,
                                height, escape_html(title));
  svg += fmt::format(R"(<text class="title" x="2" y="16">{}</text>)", escape_html(title));
  for (const double tick : axis_ticks(most, 2 * kTicks)) {
    svg += fmt::format(R"(<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>)", x(tick), kTop,
                       height - kBottom);
    svg += fmt::format(R"(<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="middle">{:g} s</text>)", x(tick),
                       height - kBottom + 16, tick);
  }
  double y = kTop;
  for (const Lane& lane : lanes) {
    svg += fmt::format("<g><title>{}</title>", escape_html(lane.label));
    for (const Span& span : lane.spans) {
      svg += fmt::format(R"(<rect class="c{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>)", span.colour,
                         x(span.from), y, std::max(0.3, x(span.to) - x(span.from)), std::max(0.6, 0.8 * pitch));
    }
    svg += "</g>";
    y += pitch;
  }
  return svg + "</svg>";
}

}  // namespace shoal::bench
