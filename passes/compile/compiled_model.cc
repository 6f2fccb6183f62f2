#include "passes/compile/compiled_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "graph/autograd.h"
#include "graph/functional.h"

namespace tidemark::compile {

struct CompiledModel::Code {
  Dims tokens;      // for which it was compiled
  Dims tokens_now;  // with which it is run, unless those are `tokens`
  bool is_training = false;
  bool is_symbolic = false;
  CompiledStep step;
  CodeNames forward_names;
  CodeNames backward_names;
  std::shared_ptr<Tuning> tuning;
  bool forward_tuned = false;
  bool backward_tuned = false;
};

namespace {

using Code = CompiledModel::Code;

constexpr const char* kNodeName = "CompiledFunctionBackward";

// What the node of a compiled forward holds.
struct Saved {
  std::shared_ptr<Code> code;
  bool at_hint = false;
  std::vector<Tensor> tensors;
  std::vector<ResultType> outputs;  // of forward
};

void CompiledGradient(Node& node, Gradients& in, Gradients& out) {
  auto& saved = *static_cast<Saved*>(node.extension.get());
  Tracer& tracer = *node.tracer;
  const std::shared_ptr<Code> code = saved.code;
  // What the engine has no gradient for is zero.
  std::vector<Tensor> inputs = std::exchange(saved.tensors, {});
  for (size_t i = 0; i < saved.outputs.size(); ++i) {
    if (!in[i].defined()) in[i] = tracer.Emit(OpKind::kFull, {}, saved.outputs[i]);
    inputs.push_back(std::move(in[i]));
  }
  Call call(tracer, code->step.backward, code->backward_names, saved.at_hint, std::move(inputs));
  if (!std::exchange(code->backward_tuned, true)) call.TuneKernels(*code->tuning);
  call.Run();
  for (uint32_t i = 0; i < node.edge_count; ++i) {
    if (node.Wants(i)) out[i] = call.Output(i);
  }
}
constexpr NodeType kCompiledFunctionBackward = {kNodeName, &CompiledGradient};

// Another length: what symbolic code is told apart by.
Dims OtherLength(Dims tokens) {
  constexpr int64_t kPrime = 24593;
  constexpr int64_t kMultiple = 64;  // of what programs ask for: a multiple of 8, say
  tokens[1] = tokens[1] * 2 + kPrime * kMultiple;
  return tokens;
}

// At the first compilation of a process Inductor traces patterns of attention, with numbers that live until all are
// there. Source: PyTorch 2.14, torch/_inductor/fx_passes/fuse_attention.py (_get_sfdp_patterns).
void TracePatterns(Tracer& tracer) {
  for (const auto& [dtype, count] : {std::pair(DType::kFloat32, 12), std::pair(DType::kFloat16, 14)}) {
    std::vector<Tensor> kept;
    for (int i = 0; i < count; ++i) {
      const Tensor number = Full(tracer, dtype, {}, 0, Role::kScalar);
      kept.push_back(tracer.Emit(OpKind::kClone, {&number}, Contiguous(dtype, {}, Role::kScalar)));
    }
    for (Tensor& t : kept) t.Reset();
  }
}

}  // namespace

CompiledModel::CompiledModel(const RunConfig& run, Model& model, Observer observer, Tuning* tuning)
    : run_(run),
      model_(model),
      tracer_(model.tracer()),
      observer_(std::move(observer)),
      parameters_(model.Parameters()),
      buffers_(model.Buffers()),
      tuning_(tuning == nullptr ? std::make_shared<Tuning>()
                                : std::shared_ptr<Tuning>(std::shared_ptr<void>(), tuning)) {
  tracer_.Assume(
      run.training.compile == CompileMode::kFirstRun
          ? fmt::format("torch.compile: predicted is a first run, with {}, which launches kernels to time "
                        "them; what that leaves reserved depends on times, and later runs (compile: true) "
                        "reserve another amount",
                        tuning_->cache.empty() ? "empty compile caches" : "what earlier runs left in the caches")
          : "torch.compile: predicted is a run with filled compile caches; a first run (compile: first-run) "
            "times its kernels, which can leave more memory reserved; how much depends on times");
}

ModelOutput CompiledModel::operator()(const Tensor& tokens, const Tensor& targets) {
  const std::shared_ptr<Code> code = CodeFor(tokens.sizes());
  if (code == nullptr) return model_(tokens, targets);
  const InScope in_scope(tracer_, model_.scope());
  return RunCode(code, tokens, targets);
}

// Which sizes code is compiled for: torch/_dynamo's automatic dynamic shapes. The first compilation takes sizes as
// they are; a later one that meets another length than the first leaves it open, and so do all that follow.
std::shared_ptr<Code> CompiledModel::CodeFor(const Dims& tokens) {
  const bool training = tracer_.grad_enabled;
  for (size_t i = codes_.size(); i-- > 0;) {
    const std::shared_ptr<Code> c = codes_[i];
    if (c->is_training != training) continue;
    if (c->tokens == tokens || (c->is_symbolic && c->tokens_now == tokens)) return c;
    if (!c->is_symbolic) continue;
    // Its guards may not hold: say, that strides are multiples of 8.
    if (std::shared_ptr<Code> same = Compile(c->tokens, tokens, true)) {
      codes_.push_back(same);
      return same;
    }
  }
  if (!codes_.empty() && !(codes_[0]->tokens == tokens)) is_symbolic_ = true;
  std::shared_ptr<Code> code = Compile(tokens, is_symbolic_ ? OtherLength(tokens) : tokens, false);
  if (code == nullptr && tracer_.refusal.empty()) code = Compile(tokens, tokens, false);
  if (code == nullptr) return nullptr;
  CompileTimeEvents(code->step);
  codes_.push_back(code);
  return code;
}

// `known`: the same symbolic code as before, for another length; null where that has another program or breaks a guard.
std::shared_ptr<Code> CompiledModel::Compile(const Dims& tokens, const Dims& now, bool known) {
  auto code = std::make_shared<Code>();
  code->tokens = tokens;
  code->tokens_now = now;
  code->tuning = tuning_;
  code->is_training = tracer_.grad_enabled;
  code->is_symbolic = !(tokens == now);
  const auto earlier = std::ranges::count(codes_, code->is_training, [](const auto& c) { return c->is_training; });
  const std::string number = earlier == 0 ? "" : std::to_string(earlier);
  const CompileRequest request = {.tokens = tokens, .tokens_now = now, .training = code->is_training, .number = number};
  Result<CompiledStep> step = CompileStep(run_, request, known ? Observer() : observer_);
  if (!step.ok()) {
    tracer_.Refuse(step.error().message);
    return nullptr;
  }
  if (step->is_another_program || (known && !step->GuardsHold())) return nullptr;
  code->forward_tuned = code->backward_tuned = known;
  code->step = std::move(*step);
  code->forward_names = NameCode(tracer_, code->step.captured, code->step.forward);
  if (code->is_training) code->backward_names = NameCode(tracer_, code->step.captured, code->step.backward);
  return code;
}

void CompiledModel::CompileTimeEvents(const CompiledStep& step) {
  if (codes_.empty()) TracePatterns(tracer_);
  std::vector<Tensor> constants;
  for (const FoldingStep& folding : step.folding) {
    if (folding.constant == constants.size()) {
      constants.push_back(Full(tracer_, folding.dtype, {}, 0, Role::kScalar));
    } else {
      constants[folding.constant].Reset();
    }
  }
  TimeProducts(tracer_, step.products, tuning_->cache);
}

std::vector<Tensor> CompiledModel::Arguments(const Code& code, const Tensor& tokens, const Tensor& targets) const {
  std::vector<Tensor> arguments;
  for (const InputSource& source : code.step.sources) {
    switch (source.kind) {
      case InputSource::Kind::kTokens:
        arguments.push_back(tokens);
        break;
      case InputSource::Kind::kTargets:
        arguments.push_back(targets);
        break;
      case InputSource::Kind::kParameter:
        arguments.push_back(parameters_[source.index]->tensor);
        break;
      case InputSource::Kind::kBuffer:
        arguments.push_back(buffers_[source.index]->tensor);
        break;
    }
  }
  return arguments;
}

ModelOutput CompiledModel::RunCode(const std::shared_ptr<Code>& code, const Tensor& tokens, const Tensor& targets) {
  const CompiledStep& step = code->step;
  const bool at_hint = tokens.sizes() == code->tokens;
  const std::vector<Tensor> arguments = Arguments(*code, tokens, targets);
  NodeRef node;
  if (step.is_training) {
    std::vector<const Tensor*> inputs;
    for (const Tensor& t : arguments) inputs.push_back(&t);
    node = MakeNode(tracer_, kCompiledFunctionBackward, inputs);
  }
  ModelOutput output;
  {
    Call call(tracer_, step.forward, code->forward_names, at_hint, arguments);
    if (!std::exchange(code->forward_tuned, true)) call.TuneKernels(*code->tuning);
    call.Run();
    output.logits = call.Output(0);
    output.loss = call.Output(1);
    if (!node) return output;
    auto saved = std::make_shared<Saved>();
    saved->code = code;
    saved->at_hint = at_hint;
    for (size_t i = step.outputs; i < step.forward.lowered.outputs.size(); ++i) {
      saved->tensors.push_back(call.Output(i, HolderKind::kSaved, kNodeName));
    }
    for (const Tensor* t : {&output.logits, &output.loss}) saved->outputs.push_back({t->dtype(), t->layout()});
    node->extension = std::move(saved);
  }
  node->SetHistory(output.logits, 0);
  node->SetHistory(output.loss, 1);
  return output;
}

MakeModelRunner CompiledModels(Observer observer, Tuning* tuning) {
  return [observer, tuning](const RunConfig& run, Model& model) -> std::unique_ptr<ModelRunner> {
    return std::make_unique<CompiledModel>(run, model, observer, tuning);
  };
}

}  // namespace tidemark::compile
