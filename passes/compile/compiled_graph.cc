#include "passes/compile/compiled_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "graph/op.h"
#include "passes/compile/decompose.h"
#include "passes/compile/joint_passes.h"
#include "passes/compile/lower.h"
#include "passes/compile/partition.h"
#include "passes/compile/post_grad.h"

namespace tidemark::compile {
namespace {

CallInfo InfoOfCall(const FunctionalNode& node) {
  CallInfo info;
  info.attributes.number = node.number;
  for (size_t i = 0; i < 3; ++i) info.attributes.integer[i] = node.integer[i].hint();
  const auto from = [&](std::initializer_list<int> parts) {
    info.parts.assign(node.results.size(), -1);
    for (const int part : parts) {
      info.parts[static_cast<size_t>(part)] = static_cast<int>(info.results.size());
      info.results.push_back(node.results[static_cast<size_t>(part)]);
    }
  };
  const bool on_host = info.attributes.integer[1] > 0;  // efficient attention with dropout: its seed and offset
  switch (node.kind) {
    case OpKind::kFlashForward:
      from({0, 1, 6, 7});
      info.operands = {0, 1, 2};
      break;
    case OpKind::kFlashBackward:
      from({0, 1, 2});
      info.operands = {0, 1, 2, 3, 4, 5};
      break;
    case OpKind::kEfficientForward: {
      const bool has_sums = !node.results[1].sizes.empty();
      if (on_host) {
        has_sums ? from({0, 1}) : from({0});
      } else {
        has_sums ? from({2, 3, 0, 1}) : from({2, 3, 0});
      }
      for (size_t i = 0; i < node.inputs.size(); ++i) info.operands.push_back(i);
      break;
    }
    case OpKind::kEfficientBackward: {
      // Gradient, q, k, v, (mask,) result, sums, then the random state where that is on the device.
      from({0, 1, 2});
      const bool has_mask = node.inputs.size() % 2 == 1;
      info.operands = has_mask ? std::vector<size_t>{0, 1, 2, 3, 5, 6, 4} : std::vector<size_t>{0, 1, 2, 3, 4, 5};
      break;
    }
    default:
      break;
  }
  return info;
}

// What each kernel computes: the nodes of its operations, and those whose values exist only inside it.
class Describing {
 public:
  Describing(const FunctionalGraph& graph, CompiledGraph& code) : graph_(graph), code_(code) {
    has_memory_.resize(graph.nodes.size());
    for (const Buffer& buffer : code.lowered.buffers) {
      if (buffer.node.valid()) has_memory_[buffer.node.index()] = true;
    }
    position_.resize(graph.nodes.size());
    for (size_t i = 0; i < graph.order.size(); ++i) position_[graph.order[i].index()] = i;
  }

  void Run(std::string_view label) {
    code_.calls.resize(code_.lowered.operations.size());
    for (const Kernel& kernel : code_.plan.kernels) {
      KernelInfo info;
      std::vector<NodeId> nodes;
      for (const OperationId id : kernel.operations) Collect(code_.lowered.operations[id].node, nodes);
      std::ranges::sort(nodes, {}, [&](NodeId id) { return position_[id.index()]; });
      for (const NodeId id : nodes) {
        if (!info.scope.valid()) info.scope = graph_.nodes[id].scope;
      }
      if (kernel.is_extern) {
        const OperationId id = kernel.operations[0];
        code_.calls[id] = InfoOfCall(graph_.nodes[code_.lowered.operations[id].node]);
      } else {
        for (const NodeId id : nodes) info.fused.ops.push_back(graph_.nodes[id].kind);
        info.fused.name = fmt::format("{}/{}_{}", label, NameOf(info.fused.ops), fused_count_++);
        if (!code_.tuning.kernels.empty()) AddName(kernel, code_.tuning.kernels[code_.kernels.size()].source);
      }
      code_.kernels.push_back(std::move(info));
    }
  }

 private:
  void Collect(NodeId id, std::vector<NodeId>& nodes) const {
    if (!id.valid() || std::ranges::find(nodes, id) != nodes.end()) return;
    if (graph_.nodes[id].kind == OpKind::kFromHost) return;
    nodes.push_back(id);
    for (const NodeId input : graph_.nodes[id].inputs) {
      if (!has_memory_[input.index()]) Collect(input, nodes);
    }
  }

  // Code that occurs several times in a graph has one name, its first launch's.
  void AddName(const Kernel& kernel, std::string& source) {
    std::string& name = names_[source];
    if (name.empty()) {
      std::vector<NodeId> nodes;
      for (const OperationId id : kernel.operations) Collect(code_.lowered.operations[id].origin, nodes);
      std::vector<OpKind> ops;
      for (const NodeId id : nodes) ops.push_back(graph_.nodes[id].kind);
      name = NameOf(ops) + " ";
    }
    source.insert(0, name);
  }

  // "add_mul_sum", to which the graph's name and the kernel's number come.
  static std::string NameOf(const std::vector<OpKind>& ops) {
    std::vector<std::string_view> names;
    for (const OpKind kind : ops) {
      std::string_view name = InfoOf(kind).name;
      name.remove_prefix(std::min(name.size(), name.find("::") == std::string_view::npos ? 0 : name.find("::") + 2));
      const bool is_view = kind == OpKind::kView || kind == OpKind::kGetItem;
      if (!is_view && std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
    std::ranges::sort(names);
    return fmt::format("{}", fmt::join(names, "_"));
  }

  const FunctionalGraph& graph_;
  CompiledGraph& code_;
  std::vector<bool> has_memory_;  // by node
  std::vector<size_t> position_;
  std::map<std::string, std::string> names_;  // by source
  int fused_count_ = 0;
};

std::string_view ShortOpName(OpKind kind) {
  const std::string_view name = InfoOf(kind).name;
  const size_t colons = name.find("::");
  return colons == std::string_view::npos ? name : name.substr(colons + 2);
}

ValueSummary ValueOf(const Graph& captured, const FunctionalNode& node) {
  ValueSummary value = {.name = node.name, .op = std::string(ShortOpName(node.kind))};
  if (node.scope.valid()) value.module = captured.scopes[node.scope];
  if (node.weight.valid()) value.module = captured.scopes[node.weight];
  value.dtype = node.type().dtype;
  value.sizes = node.type().sizes.Hint();
  value.bytes = Bytes(HintBytes(node.type()));
  return value;
}

bool IsViewOrInput(OpKind kind) { return IsViewOrItem(kind) || kind == OpKind::kFromHost || kind == OpKind::kFull; }

// Of a view: under its own name, what computed it.
ValueSummary SavedValue(const Graph& captured, const FunctionalGraph& graph, NodeId id) {
  ValueSummary value = ValueOf(captured, graph.nodes[id]);
  while (IsViewOrInput(graph.nodes[id].kind) && !graph.nodes[id].inputs.empty()) id = graph.nodes[id].inputs[0];
  const ValueSummary computed = ValueOf(captured, graph.nodes[id]);
  value.op = computed.op;
  value.module = computed.module;
  return value;
}

// Buffers that kernels allocate or take over; whatever else a node computes exists only inside kernels.
GraphSummary Summarize(const Graph& captured, const FunctionalGraph& graph, const CompiledGraph& code,
                       std::string name) {
  GraphSummary summary = {.name = std::move(name)};
  std::vector<bool> exists(graph.nodes.size());
  const auto add_buffer = [&](BufferId id) {
    const Buffer& b = code.lowered.buffers[id];
    if (b.node.valid()) exists[b.node.index()] = true;
    ValueSummary value = b.node.valid() ? ValueOf(captured, graph.nodes[b.node]) : ValueSummary{.op = "workspace"};
    value.name = b.name;
    value.dtype = b.dtype;
    value.sizes = b.sizes.Hint();
    value.bytes = SizeOf(b.dtype) * Product(b.sizes).hint();
    summary.buffers.push_back(std::move(value));
  };
  for (const Line& line : code.plan.lines) {
    const bool makes = line.kind == Line::Kind::kAllocate || line.kind == Line::Kind::kTakeOver ||
                       line.kind == Line::Kind::kPlaceIn || line.kind == Line::Kind::kColumnSum;
    if (makes) add_buffer(line.buffer);
  }
  for (size_t i = 0; i < code.plan.kernels.size(); ++i) {
    KernelSummary kernel;
    const KernelInfo& info = code.kernels[i];
    if (info.scope.valid()) kernel.module = captured.scopes[info.scope];
    const Operation& first = code.lowered.operations[code.plan.kernels[i].operations[0]];
    if (first.kind == Operation::Kind::kPart) {
      if (first.node.valid()) exists[first.node.index()] = true;
      continue;  // a result of the call before
    }
    kernel.is_library = code.plan.kernels[i].is_extern;
    kernel.name = kernel.is_library ? std::string(InfoOf(first.call).name) : info.fused.name;
    if (kernel.is_library) kernel.ops.emplace_back(ShortOpName(first.call));
    for (const OpKind kind : info.fused.ops) kernel.ops.emplace_back(ShortOpName(kind));
    summary.kernels.push_back(std::move(kernel));
  }
  for (const NodeId id : graph.order) {
    const FunctionalNode& node = graph.nodes[id];
    if (IsViewOrInput(node.kind) || exists[id.index()] || node.is_tuple()) continue;
    summary.fused.push_back(ValueOf(captured, node));
  }
  return summary;
}

// Names are those of the joint graph: what both halves compute is computed again.
void AddComputedAgain(const Graph& captured, const Partition& p, GraphSummary& backward) {
  std::vector<std::string_view> names;
  for (const NodeId id : p.forward.order) names.push_back(p.forward.nodes[id].name);
  std::ranges::sort(names);
  for (const NodeId id : p.backward.order) {
    const FunctionalNode& node = p.backward.nodes[id];
    if (IsViewOrInput(node.kind) || node.is_tuple() || !std::ranges::binary_search(names, node.name)) continue;
    backward.computed_again.push_back(ValueOf(captured, node));
  }
}

bool SameProgram(const Graph& a, const Graph& b) {
  return a.ops.size() == b.ops.size() && std::ranges::equal(a.ops, b.ops, {}, &Op::kind, &Op::kind);
}

class Compilation {
 public:
  Compilation(const RunConfig& run, const CompileRequest& request, const Observer& observer)
      : run_(run), request_(request), observer_(observer), is_symbolic_(!(request.tokens == request.tokens_now)) {}

  Result<CompiledStep> Run() {
    ASSIGN_OR_RETURN(Captured hint, Capture(run_, request_.tokens, request_.training, is_symbolic_));
    Names names;
    FunctionalGraph joint;
    if (is_symbolic_) {
      ASSIGN_OR_RETURN(const Captured now, Capture(run_, request_.tokens_now, request_.training, true));
      step_.is_another_program = !SameProgram(hint.graph, now.graph);
      if (step_.is_another_program) return std::move(step_);
      ASSIGN_OR_RETURN(joint, Decompose(hint, now, names));
    } else {
      ASSIGN_OR_RETURN(joint, Decompose(hint, hint, names));
    }
    RemoveNoOps(joint);
    FoldConstants(joint);
    RunJointPasses(joint, names);
    if (run_.training.compile == CompileMode::kFirstRun) {
      step_.products = ProductsToTime(joint, run_.device, {request_.tokens[1], request_.tokens_now[1]});
    }
    step_.is_training = request_.training;
    if (request_.training) {
      Train(std::move(joint), hint);
    } else {
      Infer(std::move(joint), hint);
    }
    step_.sources = std::move(hint.sources);
    step_.captured = std::move(hint.graph);
    return std::move(step_);
  }

 private:
  template <typename... T>
  void Show(std::string_view stage, const T&... things) const {
    if (observer_.on_stage) observer_.on_stage(stage, ToText(things...));
  }

  // A constant lives until its last user has run; without users (they changed nothing), until all is folded.
  // Source: PyTorch 2.14, torch/_inductor/constant_folding.py (ConstantFolder).
  void FoldConstants(const FunctionalGraph& graph) {
    const auto users = graph.Users();
    std::vector<std::pair<NodeId, size_t>> alive;
    size_t made = 0;
    for (const NodeId id : graph.order) {
      const FunctionalNode& node = graph.nodes[id];
      for (const NodeId input : node.inputs) {
        const auto at = std::ranges::find(alive, input, &std::pair<NodeId, size_t>::first);
        if (at == alive.end() || !(users[input].back() == id)) continue;
        step_.folding.push_back({at->second, graph.nodes[input].type().dtype});
        alive.erase(at);
      }
      if (node.kind != OpKind::kFull) continue;
      alive.emplace_back(id, made);
      step_.folding.push_back({made++, node.type().dtype});
    }
  }

  void Train(FunctionalGraph joint, const Captured& captured) {
    MergeCommon(joint);
    Show("joint", joint);
    std::vector<bool> is_static(joint.nodes.size());
    for (size_t i = 0; i < captured.sources.size(); ++i) {
      const InputSource::Kind kind = captured.sources[i].kind;
      is_static[i] = kind == InputSource::Kind::kParameter || kind == InputSource::Kind::kBuffer;
    }
    Partition p = PartitionJoint(std::move(joint), is_static, observer_.on_stage != nullptr);
    if (observer_.on_stage) {
      observer_.on_stage("cut", p.explanation);
      observer_.on_stage("saved", SavedText(p));
    }
    step_.outputs = p.forward_outputs;
    RunPostGradPasses(p.forward, false);
    Show("forward", p.forward);
    step_.forward = Code(p.forward, {.visible_outputs = p.forward_outputs, .is_symbolic = is_symbolic_}, {}, "forward");
    RunPostGradPasses(p.backward, false);
    Show("backward", p.backward);
    const LoweringOptions options = {.visible_outputs = p.backward.outputs.size(),
                                     .input_strides = StridesOfSaved(p.backward),
                                     .is_symbolic = is_symbolic_};
    step_.backward = Code(p.backward, options, Donated(), "backward");
    for (size_t i = 0; i < p.forward_outputs; ++i) MarkOutput(i);
    if (!observer_.on_graph) return;
    GraphSummary forward = Summarize(captured.graph, p.forward, step_.forward, LabelOf("forward"));
    for (size_t i = p.forward_outputs; i < p.forward.outputs.size(); ++i) {
      forward.saved.push_back(SavedValue(captured.graph, p.forward, p.forward.outputs[i]));
    }
    observer_.on_graph(forward);
    GraphSummary backward = Summarize(captured.graph, p.backward, step_.backward, LabelOf("backward"));
    AddComputedAgain(captured.graph, p, backward);
    observer_.on_graph(backward);
  }

  std::string LabelOf(std::string_view kind) const { return fmt::format("{}{}", kind, request_.number); }

  void Infer(FunctionalGraph graph, const Captured& captured) {
    step_.outputs = graph.outputs.size();
    RunPostGradPasses(graph, true);
    Show("inference", graph);
    step_.forward =
        Code(graph, {.visible_outputs = graph.outputs.size(), .is_symbolic = is_symbolic_}, {}, "inference");
    for (size_t i = 0; i < step_.outputs; ++i) MarkOutput(i);
    if (observer_.on_graph) {
      observer_.on_graph(Summarize(captured.graph, graph, step_.forward, LabelOf("inference")));
    }
  }

  static std::string SavedText(const Partition& p) {
    std::string text;
    for (size_t i = p.forward_outputs; i < p.forward.outputs.size(); ++i) {
      const FunctionalNode& node = p.forward.nodes[p.forward.outputs[i]];
      text += fmt::format("{} {}\n", node.name, ToText(node.type()));
    }
    return text;
  }

  // Strides of what is saved are those that forward gave it; of tangents, those of the outputs.
  std::vector<Shape> StridesOfSaved(const FunctionalGraph& backward) const {
    const std::vector<BufferView>& outputs = step_.forward.lowered.outputs;
    std::vector<Shape> strides;
    for (size_t i = step_.outputs; i < outputs.size(); ++i) strides.push_back(outputs[i].strides);
    for (size_t i = strides.size(); i < backward.order.size(); ++i) {
      const FunctionalNode& node = backward.nodes[backward.order[i]];
      if (node.kind != OpKind::kFromHost) break;
      strides.push_back(node.type().strides);
    }
    return strides;
  }

  // By input of backward: whether it belongs to the step alone, being neither an input nor an output of forward.
  std::vector<bool> Donated() const {
    const LoweredGraph& forward = step_.forward.lowered;
    std::vector<bool> donated;
    for (size_t i = step_.outputs; i < forward.outputs.size(); ++i) {
      const BufferId b = forward.outputs[i].buffer;
      bool is_seen = forward.buffers[b].kind == Buffer::Kind::kInput;
      for (size_t j = 0; j < step_.outputs; ++j) is_seen = is_seen || forward.outputs[j].buffer == b;
      donated.push_back(!is_seen);
    }
    return donated;
  }

  CompiledGraph Code(const FunctionalGraph& graph, const LoweringOptions& options, const std::vector<bool>& donated,
                     std::string_view label) const {
    CompiledGraph code;
    code.lowered = Lower(graph, options, run_.device);
    Show(fmt::format("{}-buffers", label), code.lowered);
    Schedule schedule(code.lowered);
    std::vector<Kernel> kernels = Fuse(schedule);
    code.lowered.guards_hold = code.lowered.guards_hold && schedule.guards_hold;
    Show(fmt::format("{}-kernels", label), code.lowered, kernels);
    MemoryEstimate estimate;
    kernels = OrderForMemory(schedule, std::move(kernels), &estimate);
    code.plan = PlanMemory(code.lowered, schedule, kernels, estimate, donated, run_.device);
    Show(fmt::format("{}-lines", label), code.lowered, code.plan);
    if (run_.training.compile == CompileMode::kFirstRun) {
      code.tuning = DescribeTuning(code.lowered, schedule, code.plan, label == "forward");
    }
    Describing(graph, code).Run(LabelOf(label));
    for (const Buffer& buffer : code.lowered.buffers) {
      code.roles.Add(IsWeightCast(graph, buffer.node) ? Role::kWeightCast : Role::kActivation);
    }
    return code;
  }

  // A parameter in another number format, maybe transposed.
  static bool IsWeightCast(const FunctionalGraph& graph, NodeId id) {
    bool is_cast = false;
    for (; id.valid(); id = graph.nodes[id].inputs[0]) {
      const FunctionalNode& node = graph.nodes[id];
      if (node.kind == OpKind::kFromHost) return is_cast && node.weight.valid();
      is_cast = is_cast || node.kind == OpKind::kToCopy;
      if (node.kind != OpKind::kToCopy && node.kind != OpKind::kPermute) return false;
    }
    return false;
  }

  void MarkOutput(size_t i) {
    const BufferView& view = step_.forward.lowered.outputs[i];
    if (view.buffer.valid()) step_.forward.roles[view.buffer] = Role::kLogitsAndLoss;
  }

  const RunConfig& run_;
  const CompileRequest& request_;
  const Observer& observer_;
  bool is_symbolic_;
  CompiledStep step_;
};

}  // namespace

std::vector<std::string_view> Stages() {
  return {"joint",
          "cut",
          "saved",
          "forward",
          "backward",
          "inference",
          "forward-buffers",
          "forward-kernels",
          "forward-lines",
          "backward-buffers",
          "backward-kernels",
          "backward-lines",
          "inference-buffers",
          "inference-kernels",
          "inference-lines"};
}

Result<CompiledStep> CompileStep(const RunConfig& run, const CompileRequest& request, const Observer& observer) {
  return Compilation(run, request, observer).Run();
}

}  // namespace tidemark::compile
