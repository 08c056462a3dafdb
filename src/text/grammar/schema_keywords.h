// SPDX-License-Identifier: Apache-2.0
// The keywords of a JSON Schema that say something about the value itself, read into a ValueSchema; those that are refused; those
// that only annotate. Not here: keywords that combine schemas (schema.cc).
#pragma once

#include "text/grammar/schema.h"

namespace shoal::text {

// Throws Error for an argument of the wrong kind and for a keyword that is not supported. A type that is left without values: types == 0.
void read_keywords(const SchemaRef& at, ValueSchema& value);

}  // namespace shoal::text
