# shoal_embed_page(target page): builds an HTML file into a target as `shoal::kDashboardPage` (src/server/dashboard.h), plain and compressed.
# Without SHOAL_UI, or without the file, the page is empty. Run as a script (-P), it writes that source file.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  function(shoal_embed_page target page)
    set(source "${CMAKE_BINARY_DIR}/dashboard_page.cc")
    if(NOT SHOAL_UI)
      set(page "")
    endif()
    add_custom_command(
      OUTPUT "${source}"
      COMMAND "${CMAKE_COMMAND}" "-DPAGE=${page}" "-DSOURCE=${source}" -P "${CMAKE_SOURCE_DIR}/cmake/embed_page.cmake"
      DEPENDS ${page} "${CMAKE_SOURCE_DIR}/cmake/embed_page.cmake"
      COMMENT "Embedding the dashboard"
      VERBATIM)
    target_sources(${target} PRIVATE "${source}")
  endfunction()
  return()
endif()

set(html "")
set(bytes "")
set(etag "")
if(PAGE)
  set(packed "${SOURCE}.gz")
  file(ARCHIVE_CREATE OUTPUT "${packed}" PATHS "${PAGE}" FORMAT raw COMPRESSION GZip COMPRESSION_LEVEL 9)
  file(READ "${packed}" bytes HEX)
  file(READ "${PAGE}" html HEX)
  file(SHA256 "${PAGE}" hash)
  string(SUBSTRING "${hash}" 0 16 etag)
endif()
# A character array each: a string literal would have to be escaped, and compilers may limit its length.
foreach(name html bytes)
  string(REGEX REPLACE "(................................................................)" "\\1\n" ${name} "${${name}}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," ${name} "${${name}}")
endforeach()
file(WRITE "${SOURCE}" "// Written by cmake/embed_page.cmake.
#include \"server/dashboard.h\"

namespace shoal {
namespace {

constexpr char kHtml[] = {${html}'\\0'};
constexpr char kGzip[] = {${bytes}'\\0'};

}  // namespace

const DashboardPage kDashboardPage = {{kHtml, sizeof kHtml - 1}, {kGzip, sizeof kGzip - 1}, \"${etag}\"};

}  // namespace shoal
")
