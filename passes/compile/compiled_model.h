// A compiled model in the place of its modules: compiles at the first call of each kind, then runs the code.
#pragma once

#include <memory>
#include <vector>

#include "graph/training/loop.h"
#include "passes/compile/call.h"
#include "passes/compile/compiled_graph.h"

namespace tidemark::compile {

class CompiledModel : public ModelRunner {
 public:
  CompiledModel(const RunConfig& run, Model& model, Observer observer, Tuning* tuning);
  ModelOutput operator()(const Tensor& tokens, const Tensor& targets) override;

  struct Code;

 private:
  // Code that serves a call of these sizes, the newest first; compiled if there is none. Null: can't be compiled.
  std::shared_ptr<Code> CodeFor(const Dims& tokens);
  std::shared_ptr<Code> Compile(const Dims& tokens, const Dims& now, bool known);
  void CompileTimeEvents(const CompiledStep& step);
  std::vector<Tensor> Arguments(const Code& code, const Tensor& tokens, const Tensor& targets) const;
  ModelOutput RunCode(const std::shared_ptr<Code>& code, const Tensor& tokens, const Tensor& targets);

  const RunConfig& run_;
  Model& model_;
  Tracer& tracer_;
  Observer observer_;
  std::vector<ParameterPtr> parameters_;
  std::vector<ParameterPtr> buffers_;
  std::vector<std::shared_ptr<Code>> codes_;
  std::shared_ptr<Tuning> tuning_;  // also of the code's backward
  bool is_symbolic_ = false;        // another length than the first has come
};

// For TraceRun. `tuning`: what a first run finds in the compile cache and of the allocator; it outlives the run. Null:
// an empty cache.
MakeModelRunner CompiledModels(Observer observer = {}, Tuning* tuning = nullptr);

}  // namespace tidemark::compile
