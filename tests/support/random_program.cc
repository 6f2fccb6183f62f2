#include "tests/support/random_program.h"

#include <string>
#include <utility>
#include <vector>

#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/functional.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

constexpr int64_t kVocab = 24;

class Program {
 public:
  Program(uint64_t seed, const ProgramSize& size, Tracer& tracer)
      : random_(seed), tracer_(tracer), size_(size), width_(size.width * (random_.Chance(0.5) ? 1 : 2)) {
    half_ = random_.Chance(0.4);
    tracer_.BeginPhase({.name = "model"});
    embedding_ = Parameter("embedding.weight", {kVocab, width_});
    head_ = Parameter("head.weight", {kVocab, width_});
    for (int i = 0; i < 4; ++i) {
      const std::string name = "h." + std::to_string(i);
      weights_.push_back(Parameter(name + ".weight", {width_, width_}));
      norms_.push_back(Parameter(name + ".norm.weight", {width_}));
      scopes_.push_back(tracer_.AddScope(name));
    }
    x_name_ = tracer_.AddScope("x");
    y_name_ = tracer_.AddScope("y");
    steps_ = 4 + random_.Below(10);
    choices_ = random_.Next();
  }

  void Run() {
    for (int micro = 0; micro < 2; ++micro) {
      tracer_.BeginPhase({.name = "data", .step = 0, .micro_step = micro});
      Fetch(micro);
      tracer_.BeginPhase({.name = "forward", .step = 0, .micro_step = micro});
      Forward();
      tracer_.BeginPhase({.name = "backward", .step = 0, .micro_step = micro});
      tracer_.AddProbe(ProbeKind::kLoss, loss_);
      Tensor root = tracer_.Emit(OpKind::kOnesLike, {&loss_}, Contiguous(loss_.dtype(), {}, Role::kLogitsAndLoss));
      Backward(loss_, std::move(root));
    }
    tracer_.BeginPhase({.name = "optimizer", .step = 0});
    for (const auto& [parameter, name] : parameters_) {
      if (parameter.impl()->grad.defined()) tracer_.AddProbe(ProbeKind::kGradient, parameter.impl()->grad, name);
    }
  }

 private:
  Tensor Parameter(const std::string& text, const Dims& sizes) {
    Tensor made = FromHost(tracer_, DType::kFloat32, sizes, Role::kParameter, {.data = HostData::kParameter});
    const ScopeId name = tracer_.AddScope(text);
    tracer_.SetName(made, name);
    MakeParameter(made);
    Tensor held(made, HolderKind::kParameter);
    parameters_.emplace_back(held, name);
    return held;
  }

  void Fetch(int64_t batch) {
    const Dims sizes = {size_.batch, size_.length};
    const HostSource tokens = {.data = HostData::kTokens, .batch = batch, .vocab = kVocab};
    const HostSource targets = {.data = HostData::kTargets, .batch = batch, .vocab = kVocab};
    Tensor x = FromHost(tracer_, DType::kInt64, sizes, Role::kInput, tokens);
    tracer_.SetName(x, x_name_);
    Tensor y = FromHost(tracer_, DType::kInt64, sizes, Role::kInput, targets);
    tracer_.SetName(y, y_name_);
    x_ = Tensor(x, HolderKind::kCaller);
    y_ = Tensor(y, HolderKind::kCaller);
  }

  void Forward() {
    const AutocastRegion region(tracer_, half_, DType::kBFloat16);
    Random random(choices_);  // the same program in each micro-step
    std::vector<Tensor> pool = {Embedding(embedding_, x_)};
    for (uint64_t i = 0; i < steps_; ++i) {
      const InScope scope(tracer_, scopes_[i * scopes_.size() / steps_]);
      Tensor made = Next(pool, random);
      if (pool.size() > 3 || (pool.size() > 1 && random.Chance(0.3))) {
        pool.erase(pool.begin() + static_cast<std::ptrdiff_t>(random.Below(pool.size())));
      }
      pool.push_back(std::move(made));
    }
    Tensor logits = Linear(pool.back(), head_, Tensor());
    tracer_.SetRole(logits, Role::kLogitsAndLoss);
    Operand flat = View(logits, {size_.batch * size_.length, kVocab});
    Operand targets = View(y_, {size_.batch * size_.length});
    loss_ = Tensor(CrossEntropy(std::move(flat), std::move(targets)), HolderKind::kCaller);
    if (random.Chance(0.5)) logits_ = Tensor(logits, HolderKind::kCaller);
  }

  Tensor Next(const std::vector<Tensor>& pool, Random& random) {
    const Tensor& a = pool[random.Below(pool.size())];
    const Tensor& b = pool[random.Below(pool.size())];
    const size_t k = random.Below(weights_.size());
    switch (random.Below(11)) {
      case 0:
        return Add(a, b);
      case 1:
        return Mul(a, Tanh(b));
      case 2:
        return Gelu(a);
      case 3:
        return Silu(a);
      case 4:
        return Relu(Linear(a, weights_[k], Tensor()));
      case 5:
        return LayerNorm(a, norms_[k], Tensor());
      case 6:
        return Dropout(a, 0.25, true);
      case 7:
        return Softmax(a);
      case 8:
        return Add(Mul(a, 0.5), b);
      case 9:
        return Add(a, Linear(Gelu(LayerNorm(a, norms_[k], Tensor())), weights_[k], Tensor()));
      default:
        return Linear(a, weights_[k], Tensor());
    }
  }

  Random random_;
  Tracer& tracer_;
  ProgramSize size_;
  int64_t width_;
  bool half_ = false;
  uint64_t steps_ = 0;
  uint64_t choices_ = 0;
  std::vector<std::pair<Tensor, ScopeId>> parameters_;
  Tensor embedding_, head_;
  std::vector<Tensor> weights_, norms_;
  std::vector<ScopeId> scopes_;
  ScopeId x_name_, y_name_;
  Tensor x_, y_, loss_, logits_;
};

}  // namespace

Graph RandomProgram(uint64_t seed, const DeviceSpec& device, const ProgramSize& size) {
  Tracer tracer(device);
  Graph graph;
  {
    Program program(seed, size, tracer);
    program.Run();
    graph = tracer.TakeGraph();
  }
  return graph;
}

}  // namespace tidemark
