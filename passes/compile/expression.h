// Expressions over loads: the insides of values that aren't in memory. Equal expressions are one (hash-consing), so
// that counting operations is counting nodes.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "graph/base/id.h"
#include "graph/dtype.h"
#include "passes/compile/index.h"

namespace tidemark::compile {

using BufferId = Id<struct CompiledBufferTag>;
using ExpressionId = Id<struct ExpressionTag>;

enum class ExpressionKind : uint8_t {
  kConstant,
  kIndexValue,  // the value of an index: iota, positions in comparisons
  kLoad,        // of an element of a buffer
  kCall,        // an operation on operands
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  DType dtype = DType::kFloat32;
  std::string_view name;               // kCall: the operation; a string literal
  double number = 0;                   // kConstant
  bool is_integer = false;             // kConstant: 0 and 0.0 are two constants
  BufferId buffer;                     // kLoad
  bool is_linear = false;              // kLoad: `indices` is one index into the storage, else one a dimension
  bool is_opaque = false;              // kLoad: shifted under a mask (cat, slice_scatter): equal to no other access
  std::vector<Index> indices;          // kLoad, kIndexValue
  std::vector<ExpressionId> operands;  // kCall; kLoad: the values of indirect variables in `indices`
  bool operator==(const Expression&) const = default;
};

class Expressions {
 public:
  const Expression& operator[](ExpressionId id) const { return nodes_[id]; }
  ExpressionId Add(Expression e);
  ExpressionId Constant(double number, bool is_integer, DType dtype);
  ExpressionId IndexValue(Index index, DType dtype);
  ExpressionId Call(std::string_view name, std::vector<ExpressionId> operands, DType dtype);

  // The same expression with index map[v] for variable v; the new variables run below `ranges`. Indirect variables in
  // map stand for the values `indirect`.
  ExpressionId Substitute(ExpressionId root, const std::vector<Index>& map, const std::vector<Extent>& ranges,
                          const std::vector<ExpressionId>& indirect = {});

  // All nodes of an expression, each once, operands first, in order of evaluation.
  std::vector<ExpressionId> Nodes(ExpressionId root) const;

  struct Counts {
    int operations = 0;        // distinct nodes
    int loads = 0;             // distinct accesses
    int nontrivial_loads = 0;  // those of more than a scalar
  };
  Counts Count(ExpressionId root) const;

 private:
  struct Hash {
    size_t operator()(const Expression& e) const;
  };
  Column<ExpressionId, Expression> nodes_;
  std::unordered_map<Expression, ExpressionId, Hash> known_;
};

}  // namespace tidemark::compile
