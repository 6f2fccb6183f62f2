#include "tools/formats/chrome_trace.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "tools/tape_marks.h"

namespace tidemark {
namespace {

constexpr int kGpu = 1;
constexpr int kTensors = 2;
constexpr int kPhaseThread = 1;
constexpr int kOpThread = 2;
constexpr int64_t kNanosPerEvent = 1000;

// A JSON string, quotes included. Bytes that aren't UTF-8 are replaced.
std::string Quoted(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// [begin, end) in events: an allocation's life.
struct Life {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool born = false;
  Bytes bytes;
};

class TraceWriter {
 public:
  explicit TraceWriter(const ChromeTraceInput& input)
      : in_(input), events_(static_cast<uint32_t>(in_.tape.events.size())) {}

  std::string Run() {
    text_ = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
    Metadata();
    Phases();
    Ops();
    Counters();
    Instants();
    const size_t left_out = Lives();
    text_ += "\n],\"otherData\":{";
    text_ += fmt::format("\"title\":{},\"axis\":{},\"tensors_left_out\":{}}}}}\n", Quoted(in_.report.title),
                         Quoted(in_.begin_ns.empty() ? "one microsecond an event" : "modelled time"), left_out);
    return std::move(text_);
  }

 private:
  template <typename... T>
  void Event(fmt::format_string<T...> format, T&&... values) {
    text_ += first_ ? "\n{" : ",\n{";
    first_ = false;
    fmt::format_to(std::back_inserter(text_), format, std::forward<T>(values)...);
    text_ += '}';
  }

  int64_t At(uint32_t event) const {
    if (in_.begin_ns.empty()) return kNanosPerEvent * event;
    if (event < in_.begin_ns.size()) return in_.begin_ns[event];
    return in_.begin_ns.back() + kNanosPerEvent;
  }
  // Microseconds, exact to the nanosecond.
  static std::string Micros(int64_t nanos) { return fmt::format("{}.{:03}", nanos / 1000, nanos % 1000); }
  std::string Ts(uint32_t event) const { return Micros(At(event)); }

  void Name(const char* what, int process, int thread, std::string_view name) {
    Event(R"("ph":"M","cat":"__metadata","pid":{},"tid":{},"name":"{}","args":{{"name":{}}})", process, thread, what,
          Quoted(name));
  }

  void Metadata() {
    const char* axis = in_.begin_ns.empty() ? " (predicted; one microsecond an event)" : " (predicted)";
    Name("process_name", kGpu, kPhaseThread, std::string("GPU 0") + axis);
    Name("thread_name", kGpu, kPhaseThread, "phases");
    Name("thread_name", kGpu, kOpThread, "ops");
    Name("process_name", kTensors, 1, "tensors");
    for (const auto& [process, order] : {std::pair(kGpu, 1), std::pair(kTensors, 2)}) {
      Event(R"("ph":"M","cat":"__metadata","pid":{},"tid":1,"name":"process_sort_index","args":{{"sort_index":{}}})",
            process, order);
    }
  }

  void Slice(int thread, const char* category, uint32_t begin, uint32_t end, const std::string& quoted_name,
             const std::string& arguments = {}) {
    if (begin >= end) return;
    Event(R"("ph":"X","cat":"{}","pid":{},"tid":{},"ts":{},"dur":{},"name":{}{})", category, kGpu, thread, Ts(begin),
          Micros(At(end) - At(begin)), quoted_name, arguments);
  }

  // By kernel of compiled code: ,"args":{"fused":"mul, add"}
  std::map<std::string_view, std::string> ArgumentsOfKernels() const {
    std::map<std::string_view, std::string> arguments;
    for (const compile::GraphSummary& graph : in_.report.compiled) {
      for (const compile::KernelSummary& kernel : graph.kernels) {
        if (kernel.is_library) continue;
        arguments.emplace(kernel.name, fmt::format(R"(,"args":{{"fused":{}}})",
                                                   Quoted(fmt::format("{}", fmt::join(kernel.ops, ", ")))));
      }
    }
    return arguments;
  }

  // The word of an op's text that names a kernel: "CompiledFunctionBackward backward/add_3 @ h.0".
  static std::string_view KernelOf(std::string_view text) {
    const size_t slash = text.find('/');
    if (slash == std::string_view::npos) return {};
    const size_t blank = text.rfind(' ', slash);
    const size_t begin = blank == std::string_view::npos ? 0 : blank + 1;
    return text.substr(begin, std::min(text.find(' ', slash), text.size()) - begin);
  }

  // A slice for each step around those of its phases.
  void Phases() {
    const std::vector<PhaseRange> phases = PhasesOf(in_.tape);
    for (size_t i = 0; i < phases.size();) {
      size_t end = i;
      while (end < phases.size() && phases[end].at.step == phases[i].at.step) ++end;
      if (phases[i].at.step >= 0) {
        Slice(kPhaseThread, "step", phases[i].begin, phases[end - 1].end,
              Quoted(fmt::format("step {}", phases[i].at.step)));
      }
      for (; i < end; ++i) {
        if (phases[i].at.phase.empty()) continue;
        Slice(kPhaseThread, "phase", phases[i].begin, phases[i].end, Quoted(phases[i].at.phase));
      }
    }
  }

  void Ops() {
    std::map<TextId, std::string> quoted;
    const std::map<std::string_view, std::string> kernels = ArgumentsOfKernels();
    const std::vector<Mark>& marks = in_.tape.marks;
    for (size_t i = 0; i < marks.size(); ++i) {
      if (marks[i].kind != MarkKind::kOp) continue;
      const uint32_t end = i + 1 < marks.size() ? marks[i + 1].event : events_;
      const auto [name, added] = quoted.try_emplace(marks[i].text);
      if (added) name->second = Quoted(in_.tape.texts[marks[i].text]);
      const auto kernel = kernels.find(KernelOf(in_.tape.texts[marks[i].text]));
      Slice(kOpThread, "op", marks[i].event, end, name->second, kernel == kernels.end() ? "" : kernel->second);
    }
  }

  void Counter(const char* name, uint32_t event, Bytes value, std::optional<Bytes>& last) {
    if (last == value) return;
    last = value;
    Event(R"("ph":"C","cat":"memory","pid":{},"ts":{},"name":"{}","args":{{"bytes":{}}})", kGpu, Ts(event), name,
          value.count());
  }

  void Counters() {
    std::optional<Bytes> requested, allocated, active, reserved;
    for (const TraceObserver::Point& point : in_.observed.points()) {
      Counter("requested", point.event, point.requested, requested);
      Counter("allocated", point.event, point.allocated, allocated);
      Counter("active", point.event, point.active, active);
      Counter("reserved", point.event, point.reserved, reserved);
    }
  }

  void Instants() {
    const auto instant = [&](uint64_t event, const std::string& name) {
      Event(R"("ph":"i","cat":"memory","pid":{},"tid":{},"ts":{},"s":"g","name":{})", kGpu, kPhaseThread,
            Ts(static_cast<uint32_t>(event)), Quoted(name));
    };
    instant(in_.report.at_event, fmt::format("PEAK {:.1f} MiB allocated", in_.report.allocated_peak / kMiB));
    if (in_.report.out_of_memory) instant(in_.report.out_of_memory->event, "OUT OF MEMORY");
  }

  std::vector<Life> LivesOfTape() const {
    std::vector<Life> lives(in_.tape.allocations.size(), Life{0, events_, false, Bytes()});
    for (uint32_t event = 0; event < events_; ++event) {
      const auto& e = in_.tape.events[event];
      if (e.kind == EventKind::kAlloc) {
        lives[e.allocation.index()] = {event, events_, e.bytes > Bytes(0), e.bytes};
      } else if (e.kind == EventKind::kFree) {
        lives[e.allocation.index()].end = event;
      }
    }
    return lives;
  }

  // Returns how many lives weren't drawn.
  size_t Lives() {
    const std::vector<Life> lives = LivesOfTape();
    std::vector<size_t> drawn;
    for (size_t i = 0; i < lives.size(); ++i) {
      const bool placed = i < in_.observed.places().size() && in_.observed.places()[i].segment >= 0;
      if (lives[i].born && placed) drawn.push_back(i);
    }
    const size_t all = drawn.size();
    if (all > kMaxLivesDrawn) {
      const auto weight = [&](size_t i) {
        return static_cast<double>(lives[i].bytes.count()) * (lives[i].end - lives[i].begin);
      };
      std::ranges::stable_sort(drawn, [&](size_t a, size_t b) { return weight(a) > weight(b); });
      drawn.resize(kMaxLivesDrawn);
      std::ranges::sort(drawn);
    }
    for (const size_t i : drawn) DrawLife(i, lives[i]);
    return all - drawn.size();
  }

  // Two slices of one id: the category, by which viewers group, and in it the tensor.
  void DrawLife(size_t index, const Life& life) {
    const TensorReport tensor = in_.describer.Describe(AllocationId(index));
    const TraceObserver::Place& place = in_.observed.places()[index];
    std::string arguments = fmt::format(R"("bytes":{},"block_bytes":{},"segment":{},"offset":{},"op":{},"why":{})",
                                        life.bytes.count(), place.block_bytes.count(), place.segment,
                                        place.offset.count(), Quoted(tensor.op), Quoted(tensor.why));
    if (!tensor.dtype.empty()) {
      arguments += fmt::format(R"(,"dtype":{},"shape":{})", Quoted(tensor.dtype), nlohmann::json(tensor.shape).dump());
    }
    const std::string category = Quoted(tensor.category);
    const std::string name = Quoted(tensor.tensor);
    // From 1: viewers take 0 for a missing id.
    const std::string common = fmt::format(R"("cat":"tensor","pid":{},"tid":1,"id":"0x{:x}")", kTensors, index + 1);
    Event(R"("ph":"b",{},"ts":{},"name":{},"args":{{{}}})", common, Ts(life.begin), category, arguments);
    Event(R"("ph":"b",{},"ts":{},"name":{})", common, Ts(life.begin), name);
    Event(R"("ph":"e",{},"ts":{},"name":{})", common, Ts(life.end), name);
    Event(R"("ph":"e",{},"ts":{},"name":{})", common, Ts(life.end), category);
  }

  const ChromeTraceInput& in_;
  uint32_t events_;
  std::string text_;
  bool first_ = true;
};

}  // namespace

void TraceObserver::OnEvent(const Observation& observation) {
  const Usage& usage = observation.usage;
  points_.push_back(
      {static_cast<uint32_t>(observation.event), usage.requested, usage.allocated, usage.active, usage.reserved});
  if (observation.kind != EventKind::kAlloc || !observation.allocation.valid()) return;
  const size_t index = observation.allocation.index();
  if (index >= places_.size()) places_.resize(index + 1);
  places_[index] = {observation.placement.segment, observation.placement.offset, observation.placement.block_bytes};
}

std::string ChromeTrace(const ChromeTraceInput& input) { return TraceWriter(input).Run(); }

}  // namespace tidemark
