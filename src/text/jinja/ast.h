// SPDX-License-Identifier: Apache-2.0
// Syntax tree of a template. Nodes keep the line they begin in, for error texts. Not here: meaning (run.h).
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace shoal::text::jinja {

struct Expr;
struct Statement;
using ExprPtr = std::unique_ptr<Expr>;
using Block = std::vector<std::unique_ptr<Statement>>;

enum class ExprKind {
  kConstant,   // value
  kName,       // name
  kList,       // operands
  kDict,       // operands: key, value, key, value, …
  kAttribute,  // operands[0] . name
  kItem,       // operands[0] [ operands[1] ]
  kSlice,      // operands[0] [ from : to : step ], absent ones null
  kCall,       // operands[0] ( arguments )
  kFilter,     // operands[0] | name ( arguments )
  kTest,       // operands[0] is name ( arguments )
  kNot,
  kNegate,
  kPlus,  // unary
  kAnd,
  kOr,
  kIf,       // operands: condition, then, else or null
  kBinary,   // name: the operator's spelling
  kConcat,   // operands[0] ~ operands[1] ~ …
  kCompare,  // operands[0] ops[0] operands[1] ops[1] operands[2] …
};

struct Argument {
  std::string name;  // empty: positional
  ExprPtr value;
};

struct Expr {
  ExprKind kind;
  int line;
  std::string name;
  Value value;
  std::vector<ExprPtr> operands;
  std::vector<Argument> arguments;
  std::vector<std::string> operators;
};

enum class StatementKind {
  kText,         // text
  kOutput,       // expr
  kIf,           // expr, body, otherwise
  kFor,          // targets in expr if condition: body, otherwise
  kSet,          // targets = expr, or targets = body (through the filters of condition, innermost operand null)
  kSetField,     // targets[0].targets[1] = expr
  kMacro,        // targets[0] (parameters): body
  kCallBlock,    // expr, a call, whose caller() is parameters and body
  kFilterBlock,  // body through the filters of condition, as in kSet
  kScope,        // body
  kBreak,
  kContinue,
};

struct Parameter {
  std::string name;
  ExprPtr fallback;  // null: none
};

struct Statement {
  StatementKind kind;
  int line;
  std::string text;
  ExprPtr expr, condition;
  std::vector<std::string> targets;
  std::vector<Parameter> parameters;
  Block body, otherwise;
  bool uses_loop = false;  // of kFor: the body may read `loop`, which is costly to make
};

}  // namespace shoal::text::jinja
