#include "graph/training/loop.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/model.h"
#include "graph/run_program.h"
#include "graph/training/grad_scaler.h"
#include "graph/training/optimizer.h"

namespace tidemark {
namespace {

// Names of the training loop. A rebound name drops its old tensor once the new one is there.
void Rebind(Tensor& name, Tensor value) { name = Tensor(value, HolderKind::kCaller); }

class Training {
 public:
  Training(Tracer& tracer, const RunConfig& run, Model& model, std::unique_ptr<Optimizer> optimizer,
           const MakeModelRunner& compiler)
      : tracer_(tracer),
        t_(run.training),
        vocab_(run.model.vocab),
        model_(model),
        optimizer_(std::move(optimizer)),
        scaler_(tracer, run.training.precision == Precision::kAmpFp16) {
    tracer.attention = t_.attention;
    tracer.BeginPhase({.name = "model"});
    model_.MoveToDevice();
    parameters_ = model_.Parameters();
    optimizer_->Construct();
    if (t_.compile != CompileMode::kOff) compiled_ = compiler(run, model_);
  }

  // nanoGPT's loop: the next batch is fetched between forward and backward; logits and loss live on.
  void RunNanogpt() {
    tracer_.training = true;
    Phase("data", 0, 0);
    Fetch(x_, y_);
    for (int64_t step = 0; step < t_.steps; ++step) {
      if (EvaluatesAt(step)) EvaluateNanogpt(step);
      for (int64_t micro = 0; micro < t_.gradient_accumulation; ++micro) {
        Phase("forward", step, micro);
        {
          CheckBf16();
          const AutocastRegion region(tracer_, Amp(), AmpDType());
          ModelOutput out = RunModel(x_, y_);
          Rebind(logits_, std::move(out.logits));
          Rebind(loss_, std::move(out.loss));
          Rebind(loss_, Div(loss_, static_cast<double>(t_.gradient_accumulation)));
        }
        Phase("data", step, micro);
        tracer_.AddProbe(ProbeKind::kLoss, loss_);
        Fetch(x_, y_);
        Phase("backward", step, micro);
        RunBackward();
      }
      Update(step);
    }
  }

  // The plain loop of a PyTorch program: batch, forward, backward; the outputs live on.
  void RunPlain() {
    tracer_.training = true;
    for (int64_t step = 0; step < t_.steps; ++step) {
      if (EvaluatesAt(step)) EvaluatePlain(step);
      for (int64_t micro = 0; micro < t_.gradient_accumulation; ++micro) {
        Phase("data", step, micro);
        Fetch(x_, y_);
        Phase("forward", step, micro);
        {
          CheckBf16();
          const AutocastRegion region(tracer_, Amp(), AmpDType());
          RebindOutputs(RunModel(x_, y_));
          Rebind(loss_, Div(outputs_.loss, static_cast<double>(t_.gradient_accumulation)));
        }
        Phase("backward", step, micro);
        tracer_.AddProbe(ProbeKind::kLoss, loss_);
        RunBackward();
      }
      Update(step);
    }
  }

 private:
  void Phase(const char* name, int64_t step, int64_t micro = -1, int64_t batch = -1) {
    tracer_.BeginPhase({.name = name, .step = step, .micro_step = micro, .batch = batch});
  }

  ModelOutput RunModel(const Tensor& x, const Tensor& y) { return compiled_ ? (*compiled_)(x, y) : model_(x, y); }

  bool Amp() const { return t_.precision == Precision::kAmpFp16 || t_.precision == Precision::kAmpBf16; }
  // torch.cuda.is_bf16_supported(), which autocast asks: before compute capability 8.0 it tries a tensor out, once.
  void CheckBf16() {
    constexpr int kFirstWithBf16 = 80;
    if (t_.precision != Precision::kAmpBf16 || tracer_.device().compute_capability >= kFirstWithBf16) return;
    if (!std::exchange(checked_bf16_, true)) {
      FromHost(tracer_, DType::kBFloat16, {1}, Role::kScalar, {.data = HostData::kConstant, .number = 1});
    }
  }
  DType AmpDType() const { return t_.precision == Precision::kAmpFp16 ? DType::kFloat16 : DType::kBFloat16; }

  // Tokens and targets of the next batch: both are there before the old ones go.
  void Fetch(Tensor& x, Tensor& y) {
    const auto lengths = static_cast<int64_t>(t_.sequence.size());
    const int64_t batch = batches_taken_++;
    const int64_t at = batch / t_.gradient_accumulation % lengths;
    const Dims sizes = {t_.micro_batch, t_.sequence[static_cast<size_t>(at)]};
    const HostData targets = t_.loop == Loop::kNanogpt ? HostData::kTargets : HostData::kTokens;
    Tensor new_x = FromHost(tracer_, DType::kInt64, sizes, Role::kInput,
                            {.data = HostData::kTokens, .batch = batch, .vocab = vocab_});
    tracer_.SetName(new_x, InputName(x_name_, "x"));
    Tensor new_y =
        FromHost(tracer_, DType::kInt64, sizes, Role::kInput, {.data = targets, .batch = batch, .vocab = vocab_});
    tracer_.SetName(new_y, InputName(y_name_, "y"));
    Rebind(x, std::move(new_x));
    Rebind(y, std::move(new_y));
  }

  ScopeId InputName(ScopeId& name, const char* text) {
    if (!name.valid()) name = tracer_.AddScope(text);
    return name;
  }

  void RunBackward() {
    Tensor scaled = scaler_.Scale(loss_);
    Tensor root = tracer_.Emit(OpKind::kOnesLike, {&scaled}, Contiguous(scaled.dtype(), {}, Role::kLogitsAndLoss));
    Backward(scaled, root);
  }

  void Update(int64_t step) {
    if (t_.grad_clip > 0) {
      Phase("clip", step);
      ProbeGradients();
      scaler_.Unscale(*optimizer_);
      ClipGradNorm(tracer_, parameters_, t_.grad_clip);
    }
    Phase("optimizer", step);
    if (t_.grad_clip <= 0) ProbeGradients();
    scaler_.Step(*optimizer_);
    scaler_.Update();
    Phase("zero_grad", step);
    optimizer_->ZeroGrad();
  }

  void ProbeGradients() {
    for (const ParameterPtr& p : parameters_) {
      const TensorImpl& parameter = *p->tensor.impl();
      if (!parameter.grad.defined()) continue;
      tracer_.AddProbe(ProbeKind::kGradient, parameter.grad, tracer_.graph().storages[parameter.storage].name);
    }
  }

  bool EvaluatesAt(int64_t step) const { return t_.evaluation.has_value() && step % t_.evaluation->every == 0; }

  void EvaluateNanogpt(int64_t step) {
    const GradMode no_grad(tracer_, false);
    tracer_.training = false;
    Tensor loss, logits, y, x;
    for (int64_t batch = 0; batch < t_.evaluation->batches; ++batch) {
      Phase("evaluation", step, -1, batch);
      Fetch(x, y);
      CheckBf16();
      const AutocastRegion region(tracer_, Amp(), AmpDType());
      ModelOutput out = RunModel(x, y);
      Rebind(logits, std::move(out.logits));
      Rebind(loss, std::move(out.loss));
    }
    tracer_.training = true;
  }

  void EvaluatePlain(int64_t step) {
    tracer_.training = false;
    ModelOutput outputs;
    Tensor y, x;
    for (int64_t batch = 0; batch < t_.evaluation->batches; ++batch) {
      Phase("evaluation", step, -1, batch);
      Fetch(x, y);
      const GradMode no_grad(tracer_, false);
      CheckBf16();
      const AutocastRegion region(tracer_, Amp(), AmpDType());
      Assign(outputs, RunModel(x, y));
    }
    x.Reset();
    y.Reset();
    Assign(outputs, ModelOutput());
    tracer_.training = true;
  }

  void RebindOutputs(ModelOutput out) { Assign(outputs_, std::move(out)); }

  // outputs = model(…): the old object's fields go once the new one is there, loss first.
  static void Assign(ModelOutput& name, ModelOutput value) {
    ModelOutput old = std::move(name);  // leaves handles that hold nothing
    // NOLINTNEXTLINE(bugprone-use-after-move)
    Rebind(name.loss, std::move(value.loss));
    Rebind(name.logits, std::move(value.logits));
    name.cache = std::move(value.cache);
    Rebind(name.encoder, std::move(value.encoder));
    old.loss.Reset();
    old.logits.Reset();
    while (!old.cache.empty()) old.cache.pop_back();
  }

  Tracer& tracer_;
  const TrainingConfig& t_;
  int64_t vocab_;
  Model& model_;
  std::unique_ptr<ModelRunner> compiled_;
  std::unique_ptr<Optimizer> optimizer_;
  GradScaler scaler_;
  std::vector<ParameterPtr> parameters_;
  int64_t batches_taken_ = 0;
  bool checked_bf16_ = false;
  ScopeId x_name_;
  ScopeId y_name_;
  Tensor x_, y_, logits_, loss_;
  ModelOutput outputs_;
};

Status CheckSupported(const RunConfig& run, bool has_compiler) {
  const TrainingConfig& t = run.training;
  if (t.compile != CompileMode::kOff && !has_compiler) {
    return InvalidInput("training.compile: this command knows eager runs only; set it to false");
  }
  const bool half = t.precision != Precision::kFp32;
  if (t.attention == AttentionChoice::kFlash && !half) {
    return InvalidInput(
        "training.attention: flash attention takes 16-bit tensors only; with precision fp32 use auto, efficient or "
        "math");
  }
  return {};
}

// About how many ops the run will have: room for them is made at once.
size_t EstimatedOps(const RunConfig& run) {
  constexpr int64_t kPerLayer = 130;  // forward and backward
  constexpr int64_t kMost = 1 << 20;
  const TrainingConfig& t = run.training;
  const int64_t batches = t.steps * t.gradient_accumulation;
  return static_cast<size_t>(std::min(kMost, kPerLayer * run.model.layers * batches));
}

}  // namespace

Result<Graph> TraceRun(const RunConfig& given, const MakeModelRunner& compiler) {
  ASSIGN_OR_RETURN(const RunConfig run, ResolveProgram(given));
  RETURN_IF_ERROR(CheckSupported(run, compiler != nullptr));
  Tracer tracer(run.device);
  tracer.Reserve(EstimatedOps(run));
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, MakeModel(tracer, run));
  ASSIGN_OR_RETURN(std::unique_ptr<Optimizer> optimizer, MakeOptimizer(*model, run.training));
  Training training(tracer, run, *model, std::move(optimizer), compiler);
  run.training.loop == Loop::kNanogpt ? training.RunNanogpt() : training.RunPlain();
  if (!tracer.refusal.empty()) return InvalidInput(tracer.refusal);
  return tracer.TakeGraph();
}

}  // namespace tidemark
