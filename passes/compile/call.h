// Runs compiled code on a tracer: each line in order, as the generated Python does.
#pragma once

#include <array>
#include <vector>

#include "graph/tracer.h"
#include "passes/compile/compiled_graph.h"

namespace tidemark::compile {

// Names of a captured graph's modules and of its kernels in the graph that a tracer records.
struct CodeNames {
  Column<ScopeId, ScopeId> scopes;  // by scope of the captured graph
  // By kernel, for the length of the call, then for that of the compilation; made when a kernel is first launched.
  std::array<std::vector<FusedKernelId>, 2> fused;
  ScopeId tuning;  // what is allocated for it
};
CodeNames NameCode(Tracer& tracer, const Graph& captured, const CompiledGraph& code);

class Call {
 public:
  // `at_hint`: sizes are those of the compilation. `inputs`: by input of the graph; undefined: nobody frees it.
  Call(Tracer& tracer, const CompiledGraph& code, CodeNames& names, bool at_hint, std::vector<Tensor> inputs);

  void Run();
  // This is the first call: each kernel that isn't in the cache yet is tuned at its first launch.
  void TuneKernels(Tuning& tuning) { tuning_ = &tuning; }

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
  // The buffer whose memory b is: of a mutation what was changed.
  BufferId Unchanged(BufferId b) const {
    return g_.buffers[b].kind == Buffer::Kind::kMutation ? g_.buffers[b].mutated : b;
  }
  Tensor ViewOf(const BufferView& view) const;
  void Launch(size_t kernel);
  void LaunchFused(size_t kernel);
  FusedKernelId FusedOf(size_t kernel, const std::vector<BufferId>& inputs);
  void AddWholesOfParts();
  void TuneKernel(size_t kernel);
  std::vector<const Tensor*> CopiedForTuning(const std::vector<BufferId>& modified) const;
  void LaunchOnCopies(const std::vector<const Tensor*>& copied);
  void LaunchCall(OperationId id);
  void LaunchTuple(OperationId id);
  void TakePart(OperationId id);
  void SumColumns(const Line& line);
  void EmitResults(OpKind kind, const std::vector<const Tensor*>& inputs, const Attributes& attributes);

  Tracer& tracer_;
  const CompiledGraph& code_;
  const LoweredGraph& g_;
  CodeNames& names_;
  bool at_hint_;
  Tuning* tuning_ = nullptr;  // null: nothing is tuned
  Column<BufferId, Tensor> values_;
  Column<BufferId, std::vector<Tensor>> tuples_;
  std::vector<Result> pending_;
  std::vector<Result> parts_;  // of buffers that several kernels write
};

}  // namespace tidemark::compile
