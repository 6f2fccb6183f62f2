// Runs compiled code on a tracer: each line in order, as the generated Python does.
#pragma once

#include <vector>

#include "graph/tracer.h"
#include "passes/compile/compiled_graph.h"

namespace tidemark::compile {

// Names of a captured graph's modules and of its kernels in the graph that a tracer records.
struct CodeNames {
  Column<ScopeId, ScopeId> scopes;   // by scope of the captured graph
  std::vector<FusedKernelId> fused;  // by kernel
};
CodeNames NameCode(Tracer& tracer, const Graph& captured, const CompiledGraph& code);

class Call {
 public:
  // `at_hint`: sizes are those of the compilation. `inputs`: by input of the graph; undefined: nobody frees it.
  Call(Tracer& tracer, const CompiledGraph& code, const CodeNames& names, bool at_hint, std::vector<Tensor> inputs);

  void Run();
  // The i-th output; undefined if there is none. After Run().
  Tensor Output(size_t i, HolderKind kind = HolderKind::kLocal, const char* node = nullptr) const;

 private:
  // A result of the next kernel.
  struct Result {
    BufferId buffer;
    BufferId allocated;  // whose size its memory has; invalid: it takes over
    BufferId from;
  };

  int64_t At(Extent e) const { return at_hint_ ? e.hint() : e.now(); }
  Dims At(const Shape& s) const { return at_hint_ ? s.Hint() : s.Now(); }
  Layout LayoutOf(BufferId b) const;
  ResultType TypeOf(const Result& result) const;
  Tensor& value(BufferId b) { return values_[b]; }
  Tensor ViewOf(const BufferView& view) const;
  void Launch(size_t kernel);
  void LaunchFused(size_t kernel);
  void LaunchCall(OperationId id);
  void LaunchTuple(OperationId id);
  void TakePart(OperationId id);
  void SumColumns(const Line& line);
  void EmitResults(OpKind kind, const std::vector<const Tensor*>& inputs, const Attributes& attributes);

  Tracer& tracer_;
  const CompiledGraph& code_;
  const LoweredGraph& g_;
  const CodeNames& names_;
  bool at_hint_;
  Column<BufferId, Tensor> values_;
  Column<BufferId, std::vector<Tensor>> tuples_;
  std::vector<Result> pending_;
  std::vector<Result> parts_;  // of buffers that several kernels write
};

}  // namespace tidemark::compile
