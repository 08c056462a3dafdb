// SPDX-License-Identifier: Apache-2.0
// The dashboard at "/": one page (ui/dist/index.html), built into the program. It holds no data and needs no key; what it shows it asks the
// API for, with the key that its user gives.
// Not here: the page itself (ui/), the data (status.h).
#pragma once

#include <string>
#include <string_view>

#include "server/http/routes.h"

namespace shoal {

// `gzip` is `html` compressed; `etag` names the content. All empty: the program was built without it (SHOAL_UI=OFF).
struct DashboardPage {
  std::string_view html, gzip, etag;
};
extern const DashboardPage kDashboardPage;

// What the page may load, as it says itself in its <meta http-equiv="Content-Security-Policy">; "default-src 'self'" if it says nothing.
std::string content_policy(std::string_view html);

// Compressed if the client takes that; 304 if it has it already.
HttpReply dashboard_reply(const HttpRequest& request, const DashboardPage& page);

// GET /. With a folder, its index.html as it is at each request: for work on the page.
void add_dashboard_routes(RouteTable& routes, const std::string& folder);

}  // namespace shoal
