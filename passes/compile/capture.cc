#include "passes/compile/capture.h"

#include <algorithm>
#include <memory>

#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/model.h"

namespace tidemark::compile {
namespace {

// "h.0.attn.c_attn" of "h.0.attn.c_attn.weight".
std::string_view ModuleOf(std::string_view parameter) {
  const size_t dot = parameter.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : parameter.substr(0, dot);
}

class Capturing {
 public:
  Capturing(Tracer& tracer, const RunConfig& run, Model& model, bool training)
      : tracer_(tracer), run_(run), model_(model), training_(training) {}

  Captured Run(const Dims& token_sizes) {
    tracer_.functional = true;
    tracer_.attention = run_.training.attention;
    tracer_.training = training_;
    model_.MoveToDevice();
    parameters_ = model_.Parameters();
    buffers_ = model_.Buffers();
    tokens_ = FromHost(tracer_, DType::kInt64, token_sizes, Role::kInput, {});
    targets_ = FromHost(tracer_, DType::kInt64, token_sizes, Role::kInput, {});
    Trace();
    result_.graph = tracer_.TakeGraph();
    result_.recompute_regions = tracer_.recompute_regions();
    OrderInputs();
    return std::move(result_);
  }

 private:
  void Trace() {
    const Precision precision = run_.training.precision;
    const bool amp = precision == Precision::kAmpFp16 || precision == Precision::kAmpBf16;
    const GradMode grad(tracer_, training_);
    // Autocast is on while backward is traced, too: it is captured where forward is called.
    const AutocastRegion region(tracer_, amp, precision == Precision::kAmpFp16 ? DType::kFloat16 : DType::kBFloat16);
    ModelOutput output = model_(tokens_, targets_);
    result_.first_backward = OpId(tracer_.graph().ops.size());
    std::vector<Tensor> outputs = {output.logits, output.loss};
    for (const Tensor& t : outputs) result_.outputs.push_back(t.impl()->id);
    if (!training_) return;
    std::vector<Tensor> tangents;
    for (const Tensor& t : outputs) {
      tangents.push_back(tracer_.Emit(OpKind::kFromHost, {}, {t.dtype(), t.layout(), Role::kActivationGradient}));
      result_.tangents.push_back(tangents.back().impl()->id);
    }
    Backward(tracer_, outputs, tangents);
  }

  // Dynamo makes inputs of what a program touches, in that order. A module hands over its weight and bias together.
  void OrderInputs() {
    Add({InputSource::Kind::kTokens, 0}, tokens_);
    for (size_t i = 0; i < result_.first_backward.index(); ++i) {
      for (const TensorId input : result_.graph.Inputs(result_.graph.ops[OpId(i)])) Touch(input);
    }
  }

  void Touch(TensorId id) {
    if (id == targets_.impl()->id) Add({InputSource::Kind::kTargets, 0}, targets_);
    for (size_t i = 0; i < buffers_.size(); ++i) {
      if (id == buffers_[i]->tensor.impl()->id) Add({InputSource::Kind::kBuffer, i}, buffers_[i]->tensor);
    }
    const auto found = std::ranges::find_if(parameters_, [&](const auto& p) { return p->tensor.impl()->id == id; });
    if (found == parameters_.end()) return;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      if (ModuleOf(parameters_[i]->name) != ModuleOf((*found)->name)) continue;
      Add({InputSource::Kind::kParameter, i}, parameters_[i]->tensor);
    }
  }

  void Add(const InputSource& source, const Tensor& t) {
    if (std::ranges::find(result_.inputs, t.impl()->id) != result_.inputs.end()) return;
    result_.sources.push_back(source);
    result_.inputs.push_back(t.impl()->id);
    const Tensor& gradient = t.impl()->grad;
    result_.gradients.push_back(gradient.defined() ? gradient.impl()->id : TensorId());
  }

  Tracer& tracer_;
  const RunConfig& run_;
  Model& model_;
  bool training_;
  std::vector<ParameterPtr> parameters_;
  std::vector<ParameterPtr> buffers_;
  Tensor tokens_;
  Tensor targets_;
  Captured result_;
};

}  // namespace

Result<Captured> Capture(const RunConfig& run, const Dims& tokens, bool training, bool open_length) {
  Tracer tracer(run.device);
  tracer.open_length = open_length;
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, MakeModel(tracer, run));
  return Capturing(tracer, run, *model, training).Run(tokens);
}

}  // namespace tidemark::compile
