#include "passes/compile/call.h"

#include <algorithm>
#include <map>
#include <utility>

#include "graph/base/check.h"
#include "graph/functional.h"
#include "passes/compile/fused_program.h"
#include "passes/compile/pad_mm.h"

namespace tidemark::compile {
namespace {

int64_t ElementsOfStorage(const Layout& layout) {
  int64_t elements = 1;
  for (int i = 0; i < layout.sizes.size(); ++i) elements += (layout.sizes[i] - 1) * layout.strides[i];
  return elements;
}

}  // namespace

CodeNames NameCode(Tracer& tracer, const Graph& captured, const CompiledGraph& code) {
  CodeNames names;
  std::map<std::string_view, ScopeId> known;
  const Graph& graph = tracer.graph();
  for (size_t i = 0; i < graph.scopes.size(); ++i) known.try_emplace(graph.scopes[ScopeId(i)], ScopeId(i));
  for (const std::string& scope : captured.scopes) {
    const auto found = known.find(scope);
    names.scopes.Add(found == known.end() ? ScopeId() : found->second);
  }
  if (!code.tuning.kernels.empty()) names.tuning = tracer.AddScope("autotune");
  for (std::vector<FusedKernelId>& fused : names.fused) fused.resize(code.kernels.size());
  return names;
}

Call::Call(Tracer& tracer, const CompiledGraph& code, CodeNames& names, bool at_hint, std::vector<Tensor> inputs)
    : tracer_(tracer), code_(code), g_(code.lowered), names_(names), at_hint_(at_hint) {
  values_.resize(g_.buffers.size());
  tuples_.resize(g_.buffers.size());
  CHECK(inputs.size() == g_.inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) values_[g_.inputs[i]] = std::move(inputs[i]);
}

void Call::Run() {
  for (const Line& line : code_.plan.lines) {
    switch (line.kind) {
      case Line::Kind::kAllocate:
        pending_.push_back({line.buffer, line.buffer, {}});
        break;
      case Line::Kind::kTakeOver: {
        const auto own = std::ranges::find(pending_, line.from, &Result::buffer);
        if (own != pending_.end()) {
          own->buffer = line.buffer;
        } else {
          pending_.push_back({line.buffer, {}, line.from});
        }
        break;
      }
      case Line::Kind::kPlaceIn:
        parts_.push_back({line.buffer, {}, line.from});
        break;
      case Line::Kind::kLaunch:
        Launch(line.kernel);
        pending_.clear();
        parts_.clear();
        break;
      case Line::Kind::kColumnSum:
        SumColumns(line);
        break;
      case Line::Kind::kDelete:
        values_[line.buffer].Reset();
        for (Tensor& part : tuples_[line.buffer]) part.Reset();
        break;
    }
  }
}

Tensor Call::Output(size_t i, HolderKind kind, const char* node) const {
  const BufferView& view = g_.outputs[i];
  if (!view.buffer.valid()) return {};
  const Tensor& whole = values_[Unchanged(view.buffer)];
  if (!whole.defined()) return {};
  return tracer_.Reinterpret(whole, whole.dtype(), {At(view.sizes), At(view.strides)}, At(view.offset), kind, node);
}

Layout Call::LayoutOf(BufferId b) const { return {At(g_.buffers[b].sizes), At(g_.buffers[b].strides)}; }

ResultType Call::TypeOf(const Result& result) const {
  ResultType type = {g_.buffers[result.buffer].dtype, LayoutOf(result.buffer), code_.roles[result.buffer]};
  if (result.allocated.valid()) type.elements = At(g_.StorageElements(result.allocated));
  return type;
}

Tensor Call::ViewOf(const BufferView& view) const {
  const Tensor& whole = values_[Unchanged(view.buffer)];
  if (!whole.defined()) return {};  // not on the device
  const Layout layout = {At(view.sizes), At(view.strides)};
  return tracer_.Reinterpret(whole, whole.dtype(), layout, whole.impl()->offset + At(view.offset));
}

void Call::Launch(size_t kernel) {
  const Kernel& k = code_.plan.kernels[kernel];
  const ScopeId scope = code_.kernels[kernel].scope;
  const InScope in_scope(tracer_, scope.valid() ? names_.scopes[scope] : tracer_.scope);
  if (!k.is_extern) {
    LaunchFused(kernel);
    if (tuning_ != nullptr && !code_.tuning.kernels.empty()) TuneKernel(kernel);
    return;
  }
  const OperationId id = k.operations[0];
  const Operation& op = g_.operations[id];
  if (op.kind == Operation::Kind::kPart) {
    TakePart(id);
  } else if (g_.buffers[op.result].kind == Buffer::Kind::kTuple) {
    LaunchTuple(id);
  } else {
    LaunchCall(id);
  }
}

void Call::LaunchFused(size_t kernel) {
  std::vector<BufferId> inputs;
  for (const BufferId b : code_.plan.reads[kernel]) {
    if (values_[b].defined()) inputs.push_back(b);
  }
  for (const OperationId id : code_.plan.kernels[kernel].operations) {
    const BufferId result = g_.operations[id].result;
    if (g_.buffers[result].kind != Buffer::Kind::kMutation) continue;
    const BufferId target = g_.buffers[result].mutated;
    if (std::ranges::find(inputs, target) == inputs.end()) inputs.push_back(target);
    pending_.push_back({target, {}, target});
  }
  AddWholesOfParts();
  std::vector<const Tensor*> tensors;
  for (const BufferId b : inputs) tensors.push_back(&values_[b]);
  const auto fused = static_cast<int64_t>(FusedOf(kernel, inputs).index());
  EmitResults(OpKind::kFusedKernel, tensors, {.integer = {fused}});
}

FusedKernelId Call::FusedOf(size_t kernel, const std::vector<BufferId>& inputs) {
  FusedKernelId& id = names_.fused[at_hint_ ? 1 : 0][kernel];
  if (id.valid()) return id;
  FusedKernel fused = code_.kernels[kernel].fused;
  std::vector<BufferId> results;
  for (const Result& result : pending_) results.push_back(result.buffer);
  AddProgram(g_, code_.plan.kernels[kernel], inputs, results, at_hint_, fused);
  id = tracer_.graph().fused.Add(std::move(fused));
  return id;
}

// What writes a part changes the whole.
void Call::AddWholesOfParts() {
  for (const Result& part : parts_) {
    if (std::ranges::find(pending_, part.from, &Result::buffer) == pending_.end()) {
      pending_.push_back({part.from, {}, part.from});
    }
  }
}

void Call::TuneKernel(size_t kernel) {
  const KernelTuning& tuning = code_.tuning.kernels[kernel];
  if (tuning.configurations == 1 || !tuning_->cache.insert(tuning.source).second) return;
  const InScope in_scope(tracer_, names_.tuning);
  for (int i = 0; i < tuning.configurations; ++i) {
    const std::vector<const Tensor*> copied = CopiedForTuning(tuning.modified);
    LaunchOnCopies(copied);
    const Tensor buffer = FlushBuffer(tracer_);
    LaunchOnCopies(copied);
  }
}

// What is changed in place and copied on the device; the rest is copied to the host.
std::vector<const Tensor*> Call::CopiedForTuning(const std::vector<BufferId>& modified) const {
  std::vector<const Tensor*> copied;
  std::vector<Bytes> bytes;
  for (const BufferId b : modified) {
    copied.push_back(&values_[b]);
    bytes.push_back(SizeOf(values_[b].dtype()) * ElementsOfStorage(values_[b].layout()));
  }
  if (copied.empty() || !code_.tuning.spares_peak) return copied;
  const size_t decision = tuning_->decided.size();
  const Bytes room =
      decision < tuning_->rooms.size() ? tuning_->rooms[decision] : tracer_.live_peak() - tracer_.live_bytes();
  const std::vector<bool> fit = CopiesThatFit(bytes, room);
  std::vector<const Tensor*> fitting;
  for (size_t i = 0; i < fit.size(); ++i) {
    if (fit[i]) fitting.push_back(copied[i]);
  }
  tuning_->decided.push_back({tracer_.graph().program.size(), std::move(bytes), fit});
  return fitting;
}

void Call::LaunchOnCopies(const std::vector<const Tensor*>& copied) {
  std::vector<Tensor> copies;
  for (const Tensor* t : copied) {
    const ResultType type = {t->dtype(), t->layout(), Role::kScalar, ElementsOfStorage(t->layout())};
    copies.push_back(tracer_.Emit(OpKind::kClone, {t}, type));
  }
  for (Tensor& copy : copies) copy.Reset();
}

void Call::LaunchCall(OperationId id) {
  const Operation& op = g_.operations[id];
  std::vector<Tensor> operands;
  for (const BufferView& view : op.operands) operands.push_back(ViewOf(view));
  std::vector<const Tensor*> inputs;
  for (const Tensor& t : operands) inputs.push_back(&t);
  Attributes attributes = code_.calls[id].attributes;
  if (op.call == OpKind::kSeeds) {
    attributes.integer[0] = tracer_.next_random;
    tracer_.next_random += At(g_.buffers[op.result].sizes[0]);
  }
  EmitResults(op.call, inputs, attributes);
}

void Call::EmitResults(OpKind kind, const std::vector<const Tensor*>& inputs, const Attributes& attributes) {
  AddWholesOfParts();
  std::vector<ResultType> types;
  std::vector<const Tensor*> onto;
  for (const Result& result : pending_) {
    types.push_back(TypeOf(result));
    onto.push_back(result.from.valid() ? &values_[result.from] : nullptr);
  }
  std::vector<Tensor> results(types.size());
  tracer_.EmitOnto(kind, inputs, types, onto, results, attributes);
  for (size_t i = 0; i < results.size(); ++i) {
    if (pending_[i].from.valid() && !(pending_[i].from == pending_[i].buffer)) values_[pending_[i].from].Reset();
    values_[pending_[i].buffer] = std::move(results[i]);
  }
  for (const Result& part : parts_) {
    const Buffer& buffer = g_.buffers[part.buffer];
    values_[part.buffer] =
        tracer_.Reinterpret(values_[part.from], buffer.dtype, LayoutOf(part.buffer), At(buffer.offset));
  }
}

void Call::LaunchTuple(OperationId id) {
  const Operation& op = g_.operations[id];
  const CallInfo& info = code_.calls[id];
  std::vector<Tensor> operands;
  for (const BufferView& view : op.operands) operands.push_back(ViewOf(view));
  std::vector<const Tensor*> inputs;
  for (const size_t i : info.operands) inputs.push_back(&operands[i]);
  std::vector<ResultType> types;
  for (const TensorType& t : info.results) types.push_back({t.dtype, {At(t.sizes), At(t.strides)}});
  std::vector<Tensor>& results = tuples_[op.result];
  results.resize(types.size());
  tracer_.Emit(op.call, inputs, types, results, info.attributes);
}

// workspace[part].sum(dim=0), in the format of the buffer.
void Call::SumColumns(const Line& line) {
  const Buffer& workspace = g_.buffers[line.from];
  const Buffer& buffer = g_.buffers[line.buffer];
  const Dims sizes = {At(workspace.sizes[1]), At(workspace.sizes[2])};
  const auto part = static_cast<int64_t>(line.kernel);
  const Tensor partial = tracer_.Reinterpret(values_[line.from], DType::kFloat32, {sizes, ContiguousStrides(sizes)},
                                             part * sizes[0] * sizes[1]);
  Tensor sum = tracer_.Emit(OpKind::kSum, {&partial}, Contiguous(DType::kFloat32, {sizes[1]}));
  if (buffer.dtype != DType::kFloat32)
    sum = tracer_.Emit(OpKind::kToCopy, {&sum}, Contiguous(buffer.dtype, {sizes[1]}));
  values_[line.buffer] = tracer_.Reinterpret(sum, buffer.dtype, LayoutOf(line.buffer));
}

void Call::TakePart(OperationId id) {
  const Operation& op = g_.operations[id];
  const BufferId tuple = op.operands[0].buffer;
  const int part = code_.calls[g_.buffers[tuple].operation].parts[op.part];
  if (part >= 0) values_[op.result] = tuples_[tuple][static_cast<size_t>(part)];
}

}  // namespace tidemark::compile
