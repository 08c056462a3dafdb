// SPDX-License-Identifier: Apache-2.0
#include "apps/eplb_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace shoal {
namespace {

constexpr int kCell = 9;
constexpr int kLeft = 40;
constexpr int kTop = 46;
constexpr int kGap = 24;
constexpr int kLegend = 44;
constexpr int kLabelEvery = 5;    // layers
constexpr double kDarkest = 1.0;  // distance from the mean that has the full colour

// White at the mean, blue below, red above.
std::string colour(double load_over_mean) {
  const double distance = std::clamp((load_over_mean - 1) / kDarkest, -1.0, 1.0);
  const int fade = static_cast<int>(std::lround(255 * (1 - std::abs(distance))));
  return distance > 0 ? fmt::format("#ff{0:02x}{0:02x}", fade) : fmt::format("#{0:02x}{0:02x}ff", fade);
}

// Titles come from file names.
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '<') {
      result += "&lt;";
    } else if (c == '&') {
      result += "&amp;";
    } else if (static_cast<unsigned char>(c) >= ' ') {
      result += c;
    }
  }
  return result;
}

double worst(const LoadPanel& panel) {
  double sum = 0;
  for (const std::vector<double>& layer : panel.load_over_mean) sum += *std::max_element(layer.begin(), layer.end());
  return sum / static_cast<double>(panel.load_over_mean.size());
}

std::string panel_text(const LoadPanel& panel, int left) {
  std::string text = fmt::format("<text x=\"{}\" y=\"{}\">{}: max/mean {:.3f}</text>\n", left, kTop - 8,
                                 escaped(panel.title), worst(panel));
  for (size_t layer = 0; layer < panel.load_over_mean.size(); ++layer) {
    for (size_t rank = 0; rank < panel.load_over_mean[layer].size(); ++rank) {
      const double load = panel.load_over_mean[layer][rank];
      text += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n",
                          left + static_cast<int>(rank) * kCell, kTop + static_cast<int>(layer) * kCell, kCell, kCell,
                          colour(load));
    }
  }
  return text;
}

std::string legend_text(int top) {
  std::string text;
  int left = kLeft;
  for (const double load : {0.0, 0.5, 0.9, 1.0, 1.1, 1.5, 2.0}) {
    text += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"14\" height=\"14\" fill=\"{}\" stroke=\"#999\"/><text x=\"{}\" y=\"{}\">{:.1f}"
        "</text>\n",
        left, top, colour(load), left + 18, top + 11, load);
    left += 52;
  }
  return text + fmt::format("<text x=\"{}\" y=\"{}\">load of a rank / mean</text>\n", left, top + 11);
}

}  // namespace

std::string load_picture(const std::string& title, const std::vector<int64_t>& layers,
                         const std::vector<LoadPanel>& panels) {
  // A title needs its room, however few the ranks.
  constexpr int kNarrowest = 260;
  std::string body;
  int left = kLeft;
  for (const LoadPanel& panel : panels) {
    body += panel_text(panel, left);
    left += std::max(static_cast<int>(panel.load_over_mean.front().size()) * kCell, kNarrowest) + kGap;
  }
  for (size_t i = 0; i < layers.size(); i += kLabelEvery) {
    body += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kLeft - 6,
                        kTop + static_cast<int>(i + 1) * kCell, layers[i]);
  }
  const int bottom = kTop + static_cast<int>(layers.size()) * kCell;
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" "
             "font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{}\" y=\"18\" "
             "font-size=\"14\">{}</text>\n",
             left, bottom + kLegend, kLeft, escaped(title)) +
         body + legend_text(bottom + kGap / 2) + "</svg>\n";
}

}  // namespace shoal
