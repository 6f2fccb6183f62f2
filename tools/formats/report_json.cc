#include "tools/formats/report_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "passes/pass.h"
#include "tools/config/words.h"

namespace tidemark {
namespace {

using Json = nlohmann::ordered_json;

// Of a number that may not be there.
Json OrNull(int64_t value) { return value < 0 ? Json(nullptr) : Json(value); }

Json MomentJson(const Moment& at, uint64_t event) {
  Json json = {{"step", OrNull(at.step)}, {"micro_step", OrNull(at.micro_step)}, {"phase", at.phase}, {"op", at.op}};
  json["event"] = event;
  if (at.batch >= 0) json["batch"] = at.batch;
  return json;
}

Json PeakJson(const Report& report) {
  return {{"requested_bytes", report.requested_peak.count()},
          {"allocated_bytes", report.allocated_peak.count()},
          {"active_bytes", report.active_peak.count()},
          {"reserved_bytes", report.reserved_peak.count()},
          {"process_bytes", report.process_peak.value.count()},
          {"at", MomentJson(report.at, report.at_event)},
          {"process_bytes_low", (report.process_peak.value - report.process_peak.below).count()},
          {"process_bytes_high", (report.process_peak.value + report.process_peak.above).count()}};
}

Json FailureJson(const Report& report) {
  if (!report.out_of_memory) return nullptr;
  const OutOfMemoryReport& failure = *report.out_of_memory;
  return {{"message", failure.message},
          {"tensor", failure.tensor},
          {"op", failure.op},
          {"requested_bytes", failure.requested.count()},
          {"at", MomentJson(failure.at, failure.event)}};
}

Json LargestJson(const Report& report) {
  Json list = Json::array();
  for (const TensorReport& tensor : report.largest) {
    list.push_back({{"tensor", tensor.tensor},
                    {"op", tensor.op},
                    {"dtype", tensor.dtype.empty() ? Json(nullptr) : Json(tensor.dtype)},
                    {"shape", tensor.dtype.empty() ? Json(nullptr) : Json(tensor.shape)},
                    {"bytes", tensor.bytes.count()},
                    {"why", tensor.why},
                    {"category", tensor.category}});
  }
  return list;
}

Json FragmentationJson(const FragmentationReport& measured) {
  Json pinned = Json::array();
  for (const PinnedSegmentReport& segment : measured.pinned) {
    Json by = Json::array();
    for (const PinningTensor& pin : segment.pinned_by)
      by.push_back({{"tensor", pin.tensor}, {"bytes", pin.bytes.count()}});
    pinned.push_back({{"segment", segment.segment},
                      {"bytes", segment.size.count()},
                      {"free_bytes", segment.free.count()},
                      {"blocks", segment.blocks},
                      {"pinned_by", std::move(by)}});
  }
  return {{"at_event", measured.event},
          {"rounding_bytes", measured.rounding.count()},
          {"cached_free_bytes", measured.cached_free.count()},
          {"largest_free_bytes", measured.largest_free.count()},
          {"free_whole_segments_bytes", measured.free_whole_segments.count()},
          {"inactive_split_bytes", measured.inactive_split.count()},
          {"free_blocks", measured.free_blocks},
          {"pinned_segments", measured.pinned_segments},
          {"pinned", std::move(pinned)}};
}

Json TimeJson(const Report& report) {
  if (!report.time) {
    return {{"step_us", nullptr}, {"forward_us", nullptr}, {"backward_us", nullptr}, {"optimizer_us", nullptr}};
  }
  return {{"step_us", report.time->step_us},
          {"forward_us", report.time->forward_us},
          {"backward_us", report.time->backward_us},
          {"optimizer_us", report.time->optimizer_us}};
}

Json PhasesJson(const Report& report) {
  Json list = Json::array();
  for (const PhasePeak& phase : report.phases) {
    Json entry = {
        {"phase", phase.at.phase}, {"step", OrNull(phase.at.step)}, {"micro_step", OrNull(phase.at.micro_step)}};
    if (phase.at.batch >= 0) entry["batch"] = phase.at.batch;
    entry["requested_bytes"] = phase.requested.count();
    entry["allocated_bytes"] = phase.allocated.count();
    entry["active_bytes"] = phase.active.count();
    entry["reserved_bytes"] = phase.reserved.count();
    entry["reserved_added_bytes"] = (phase.reserved_after - phase.reserved_before).count();
    list.push_back(std::move(entry));
  }
  return list;
}

std::string SizeText(Bytes bytes) {
  return bytes % kMiB == Bytes(0) ? fmt::format("{}MiB", bytes.count() / kMiB.count())
                                  : fmt::format("{}B", bytes.count());
}

// As a run file writes it, so that a report's config is one.
Json DeviceJson(const DeviceSpec& device) {
  return {{"name", device.name},
          {"memory", SizeText(device.memory)},
          {"compute_capability", fmt::format("{}.{}", device.compute_capability / 10, device.compute_capability % 10)},
          {"multiprocessors", device.multiprocessors},
          {"threads_per_multiprocessor", device.threads_per_multiprocessor},
          {"overhead",
           {{"value", SizeText(device.overhead.value)},
            {"below", SizeText(device.overhead.below)},
            {"above", SizeText(device.overhead.above)}}},
          {"memory_bandwidth", device.memory_bandwidth},
          {"peak_flops_fp32", device.peak_flops_fp32},
          {"peak_flops_tf32", device.peak_flops_tf32},
          {"peak_flops_half", device.peak_flops_half}};
}

struct ToJson {
  Json operator()(std::monostate /*null*/) const { return nullptr; }
  template <typename T>
  Json operator()(const T& value) const {
    return value;
  }
};

Json ModelJson(const ModelConfig& m) {
  Json further = Json::object();
  for (const ConfigField& field : m.config) further[field.key] = std::visit(ToJson{}, field.value);
  return {{"family", WordOf(kFamilyWords, m.family)},
          {"implementation", WordOf(kImplementationWords, m.implementation)},
          {"layers", m.layers},
          {"hidden", m.hidden},
          {"heads", m.heads},
          {"kv_heads", m.kv_heads},
          {"head_dim", m.head_dim},
          {"ffn", m.ffn},
          {"vocab", m.vocab},
          {"context", m.context},
          {"bias", m.bias},
          {"tied_embeddings", m.tied_embeddings},
          {"dropout", m.dropout},
          {"use_cache", m.use_cache},
          {"config", further}};
}

Json TrainingJson(const TrainingConfig& t) {
  Json optimizer = {{"name", WordOf(kOptimizerWords, t.optimizer.kind)},
                    {"implementation", WordOf(kOptimizerImplementationWords, t.optimizer.implementation)}};
  if (t.optimizer.momentum != 0) optimizer["momentum"] = t.optimizer.momentum;
  if (t.optimizer.nesterov) optimizer["nesterov"] = true;
  if (t.optimizer.weight_decay) optimizer["weight_decay"] = *t.optimizer.weight_decay;
  Json compile = t.compile == CompileMode::kFirstRun ? Json("first-run") : Json(t.compile == CompileMode::kOn);
  Json evaluation = nullptr;
  if (t.evaluation) evaluation = {{"every", t.evaluation->every}, {"batches", t.evaluation->batches}};
  return {{"micro_batch", t.micro_batch},
          {"sequence", t.sequence.size() == 1 ? Json(t.sequence[0]) : Json(t.sequence)},
          {"gradient_accumulation", t.gradient_accumulation},
          {"precision", WordOf(kPrecisionWords, t.precision)},
          {"attention", WordOf(kAttentionWords, t.attention)},
          {"optimizer", optimizer},
          {"grad_clip", t.grad_clip},
          {"compile", compile},
          {"steps", t.steps},
          {"evaluation", evaluation},
          {"loop", WordOf(kLoopWords, t.loop)}};
}

Json OptionsJson(const RecomputePass& pass) {
  Json options = {{"policy", WordOf(kRecomputePolicyWords, pass.policy)}};
  switch (pass.policy) {
    case RecomputePolicy::kFull:
      options["reentrant"] = pass.reentrant;
      break;
    case RecomputePolicy::kEveryN:
      options["blocks"] = pass.blocks;
      break;
    case RecomputePolicy::kSelective:
      options["ops"] = pass.ops;
      break;
    case RecomputePolicy::kBudget:
      options["budget"] = fmt::format("{}B", pass.budget.count());
      break;
    case RecomputePolicy::kMinCut:
      break;
  }
  return options;
}

Json OptionsJson(const FusePass& pass) { return {{"reductions", pass.reductions}}; }
Json OptionsJson(const ChunkLossPass& pass) {
  return {{"chunks", pass.chunks}, {"gradient_early", pass.gradient_early}};
}
Json OptionsJson(const AccumulatePass& pass) { return {{"parts", pass.parts}}; }
Json OptionsJson(const OffloadPass& pass) {
  return {{"what", WordOf(kOffloadWords, pass.what)}, {"smallest", fmt::format("{}B", pass.smallest.count())}};
}
Json OptionsJson(const OptimizerInBackwardPass&) { return Json::object(); }

Json PassJson(const PassConfig& pass) {
  return {{std::string(InfoOf(pass).name), std::visit([](const auto& options) { return OptionsJson(options); }, pass)}};
}

Json ConfigJson(const Report& report) {
  if (report.run) {
    const RunConfig& run = *report.run;
    Json passes = Json::array();
    for (const PassConfig& pass : run.passes) passes.push_back(PassJson(pass));
    return {{"framework", run.framework},
            {"model", ModelJson(run.model)},
            {"training", TrainingJson(run.training)},
            {"device", DeviceJson(run.device)},
            {"allocator", {{"backend", run.allocator.backend}, {"conf", run.allocator.conf}}},
            {"passes", passes}};
  }
  const AllocatorOptions& allocator = report.allocator;
  return {{"framework", allocator.framework},
          {"allocator", {{"backend", allocator.backend}, {"conf", allocator.conf}}},
          {"memory_bytes", allocator.device_memory.count()},
          {"fraction", allocator.fraction ? Json(*allocator.fraction) : Json(nullptr)},
          {"events", allocator.events == EventTiming::kAtOnce ? "at-once" : "lazy"},
          {"addresses", allocator.addresses == AddressOrder::kRising ? "rising" : "falling"}};
}

Json ValuesJson(const std::vector<compile::ValueSummary>& values) {
  Json json = Json::array();
  for (const compile::ValueSummary& v : values) {
    json.push_back({{"name", v.name},
                    {"op", v.op},
                    {"module", v.module},
                    {"dtype", Name(v.dtype)},
                    {"shape", std::vector<int64_t>(v.sizes.begin(), v.sizes.end())},
                    {"bytes", v.bytes.count()}});
  }
  return json;
}

Json CompiledJson(const std::vector<compile::GraphSummary>& graphs) {
  Json json = Json::array();
  for (const compile::GraphSummary& graph : graphs) {
    Json kernels = Json::array();
    for (const compile::KernelSummary& k : graph.kernels) {
      kernels.push_back({{"name", k.name}, {"library", k.is_library}, {"module", k.module}, {"ops", k.ops}});
    }
    json.push_back({{"graph", graph.name},
                    {"saved", ValuesJson(graph.saved)},
                    {"buffers", ValuesJson(graph.buffers)},
                    {"fused_away", ValuesJson(graph.fused)},
                    {"computed_again", ValuesJson(graph.computed_again)},
                    {"kernels", kernels}});
  }
  return json;
}

}  // namespace

std::string ReportJson(const Report& report) {
  Json json;
  json["schema"] = "tidemark.report/1";
  json["fits"] = report.fits;
  json["peak"] = PeakJson(report);
  json["out_of_memory"] = FailureJson(report);
  json["breakdown_at_peak"] = Json::array();
  for (const CategoryBytes& entry : report.breakdown) {
    json["breakdown_at_peak"].push_back({{"category", entry.category}, {"bytes", entry.bytes.count()}});
  }
  json["largest_at_peak"] = LargestJson(report);
  json["statistics"] = Json::object();
  for (const Statistic& statistic : report.statistics) json["statistics"][statistic.key] = statistic.value;
  json["fragmentation"] = FragmentationJson(report.fragmentation);
  json["overheads"] = {{"cuda_context_bytes", report.context.value.count()},
                       {"cublas_workspace_bytes", report.cublas_workspace.count()}};
  json["lower_bounds"] = {{"live_bytes", report.live_lower_bound.count()},
                          {"best_static_bytes", report.static_plan.bytes.count()},
                          {"static_lower_bound_bytes", report.static_plan.lower_bound.count()},
                          {"best_static_plan", report.static_plan.method}};
  json["time"] = TimeJson(report);
  json["counts"] = {{"ops", report.counts.ops},
                    {"tensors", report.counts.tensors},
                    {"events", report.counts.events},
                    {"parameters", report.counts.parameters}};
  json["config"] = ConfigJson(report);
  json["phases"] = PhasesJson(report);
  if (report.without_evaluation) {
    json["without_evaluation"] = {{"allocated_bytes", report.without_evaluation->allocated.count()},
                                  {"reserved_bytes", report.without_evaluation->reserved.count()}};
  }
  json["assumptions"] = report.assumptions;
  if (!report.compiled.empty()) json["compiled"] = CompiledJson(report.compiled);
  if (report.addresses) json["addresses"] = *report.addresses;
  if (report.address_range) {
    const AddressRange& range = *report.address_range;
    json["address_orders"] = {{"rising", {{"reserved_bytes", range.rising.count()}, {"fits", range.rising_fits}}},
                              {"falling", {{"reserved_bytes", range.falling.count()}, {"fits", range.falling_fits}}}};
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tidemark
