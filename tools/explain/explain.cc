#include "tools/explain/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <string_view>
#include <tuple>
#include <utility>

#include "sim/replay.h"
#include "tools/build_run.h"
#include "tools/config/size.h"
#include "tools/describe.h"
#include "tools/tape_marks.h"

namespace tidemark {
namespace {

constexpr size_t kSuspects = 5;

// --- Groups
// "saved for GeluBackward0 in h.3.mlp" -> "… in h.*.mlp": numbers between dots.
std::string WithoutNumbers(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool begins = text[i] >= '0' && text[i] <= '9' && i > 0 && text[i - 1] == '.';
    size_t end = i;
    while (begins && end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
    const bool ends = end == text.size() || text[end] == '.' || text[end] == ' ' || text[end] == ';';
    if (begins && ends) {
      result += '*';
      i = end - 1;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::vector<AliveGroup> GroupsOf(const std::vector<TensorReport>& tensors,
                                 const std::vector<CategoryBytes>& categories) {
  std::map<std::tuple<std::string, std::string, std::string, std::string, std::vector<int64_t>>, size_t> known;
  std::vector<AliveGroup> groups;
  for (const TensorReport& tensor : tensors) {
    AliveGroup group = {.category = tensor.category,
                        .tensor = WithoutNumbers(tensor.tensor),
                        .op = WithoutNumbers(tensor.op),
                        .dtype = tensor.dtype,
                        .why = WithoutNumbers(tensor.why),
                        .shape = tensor.shape};
    const auto [entry, is_new] =
        known.try_emplace({group.category, group.tensor, group.why, group.dtype, group.shape}, groups.size());
    if (is_new) groups.push_back(std::move(group));
    ++groups[entry->second].count;
    groups[entry->second].bytes += tensor.bytes;
  }
  const auto rank = [&](const AliveGroup& group) {
    return std::ranges::find(categories, group.category, &CategoryBytes::category) - categories.begin();
  };
  std::ranges::stable_sort(groups, [&](const AliveGroup& a, const AliveGroup& b) {
    return rank(a) != rank(b) ? rank(a) < rank(b) : a.bytes > b.bytes;
  });
  return groups;
}

Result<AliveThen> AliveAt(const BuiltRun& built, const AllocatorOptions& allocator, const Describer& describer,
                          uint32_t event) {
  ASSIGN_OR_RETURN(const MemoryState state, StateAt(built.lowered.tape, allocator, event));
  PeakDescription described = describer.DescribeState(state, std::numeric_limits<size_t>::max());
  AliveThen alive = {.at = MomentOf(built.lowered.tape, event),
                     .allocated = state.usage.allocated,
                     .reserved = state.usage.reserved,
                     .categories = std::move(described.breakdown)};
  const auto rounding = std::ranges::find(alive.categories, "rounding", &CategoryBytes::category);
  if (rounding != alive.categories.end()) alive.rounding = rounding->bytes;
  alive.groups = GroupsOf(described.largest, alive.categories);
  return alive;
}

// --- Messages
bool IsNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789.") == std::string_view::npos;
}

// The size that `text` begins with, "3.07 GiB" or "512 bytes"; empty: none.
std::string LeadingSize(std::string_view text) {
  constexpr std::array<std::string_view, 5> kUnits = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  const size_t blank = text.find(' ');
  if (blank == std::string_view::npos || !IsNumber(text.substr(0, blank))) return "";
  for (const std::string_view unit : kUnits) {
    if (text.substr(blank + 1).starts_with(unit)) return std::string(text.substr(0, blank + 1 + unit.size()));
  }
  return "";
}

std::string SizeBehind(std::string_view text, std::string_view words) {
  const size_t at = text.find(words);
  return at == std::string_view::npos ? "" : LeadingSize(text.substr(at + words.size()));
}

std::string SizeBefore(std::string_view text, std::string_view words) {
  const size_t at = text.find(words);
  if (at == std::string_view::npos || at == 0) return "";
  const size_t unit = text.rfind(' ', at - 1);
  if (unit == std::string_view::npos || unit == 0) return "";
  size_t number = text.rfind(' ', unit - 1);
  number = number == std::string_view::npos ? 0 : number + 1;
  return LeadingSize(text.substr(number, at - number));
}

// "3.07 GiB" in bytes, to two decimals.
Bytes BytesOf(const std::string& size) {
  const size_t blank = size.find(' ');
  if (blank == std::string::npos) return Bytes();
  const double number = std::strtod(size.substr(0, blank).c_str(), nullptr);
  const std::string unit = size.substr(blank + 1);
  const Bytes one = unit == "KiB"   ? kKiB
                    : unit == "MiB" ? kMiB
                    : unit == "GiB" ? kGiB
                    : unit == "TiB" ? kGiB * 1024
                                    : Bytes(1);
  return Bytes(std::llround(number * static_cast<double>(one.count())));
}

// --- Requests
struct Request {
  AllocationId allocation;
  uint32_t event = 0;
  Bytes requested, segment;  // segment: what was asked of the driver; 0: nothing
  Usage before;
};

class RequestObserver final : public ReplayObserver {
 public:
  void OnEvent(const Observation& observation) override {
    if (observation.kind == EventKind::kAlloc && observation.outcome == AllocateOutcome::kPlaced) {
      requests_.push_back({.allocation = observation.allocation,
                           .event = static_cast<uint32_t>(observation.event),
                           .requested = observation.usage.requested - before_.requested,
                           .segment = observation.usage.reserved - before_.reserved,
                           .before = before_});
    }
    before_ = observation.usage;
  }
  const std::vector<Request>& requests() const { return requests_; }

 private:
  std::vector<Request> requests_;
  Usage before_;
};

class Explainer {
 public:
  Explainer(const RunConfig& run, const BuiltRun& built)
      : run_(run), built_(built), describer_(DescribeGraph(built.graph, built.lowered)) {}

  Result<Explanation> AtPeak() {
    AllocatorOptions allocator = AllocatorOf(run_);
    allocator.device_memory = kUnlimited;
    ASSIGN_OR_RETURN(const Replay replay, RunReplay(built_.lowered.tape, {.allocator = allocator, .observers = {}}));
    Explanation explanation = {.title = TitleOf(run_), .device = run_.device.name, .device_memory = run_.device.memory};
    ASSIGN_OR_RETURN(explanation.alive, AliveAt(built_, allocator, *describer_, replay.allocated.event));
    return explanation;
  }

  Result<Explanation> OfMessage(const FailureMessage& message) {
    Explanation explanation = {
        .title = TitleOf(run_), .device = run_.device.name, .device_memory = run_.device.memory, .message = message};
    AllocatorOptions allocator = AllocatorOf(run_);
    // What others use of the card isn't there for this process.
    const Bytes there = BytesOf(message.free) + BytesOf(message.in_use);
    for (const Bytes memory : {run_.device.memory, there}) {
      if (memory == Bytes()) continue;
      allocator.device_memory = memory;
      ASSIGN_OR_RETURN(explanation.reproduced, Reproduce(message, allocator, explanation));
      if (explanation.reproduced) return explanation;
    }
    RETURN_IF_ERROR(Suspect(message, explanation));
    return explanation;
  }

 private:
  SuspectedRequest Describe(AllocationId allocation, uint32_t event, Bytes requested, const Usage& before) const {
    SuspectedRequest suspect = {.tensor = describer_->Describe(allocation),
                                .at = MomentOf(built_.lowered.tape, event),
                                .requested = requested,
                                .allocated = before.allocated,
                                .reserved = before.reserved};
    suspect.tensor.bytes = requested;
    return suspect;
  }

  Result<bool> Reproduce(const FailureMessage& message, const AllocatorOptions& allocator, Explanation& explanation) {
    ASSIGN_OR_RETURN(
        const Replay replay,
        RunReplay(built_.lowered.tape, {.allocator = allocator, .stop_at_out_of_memory = true, .observers = {}}));
    if (replay.out_of_memory.empty()) return false;
    const OutOfMemory& failure = replay.out_of_memory.front();
    const Result<FailureMessage> simulated = ParseFailure(failure.message);
    if (!simulated.ok() || simulated->tried != message.tried) return false;
    if (!message.allocated.empty() && simulated->allocated != message.allocated) return false;
    ASSIGN_OR_RETURN(explanation.alive, AliveAt(built_, allocator, *describer_, failure.event));
    Usage usage;
    usage.allocated = explanation.alive.allocated;
    usage.reserved = explanation.alive.reserved;
    explanation.suspects = {Describe(failure.allocation, failure.event, failure.requested, usage)};
    return true;
  }

  Status Suspect(const FailureMessage& message, Explanation& explanation) {
    AllocatorOptions allocator = AllocatorOf(run_);
    allocator.device_memory = kUnlimited;
    RequestObserver observer;
    const Result<Replay> replay = RunReplay(built_.lowered.tape, {.allocator = allocator, .observers = {&observer}});
    if (!replay.ok()) return replay.error();
    const std::vector<Request> suspects = RequestsOf(message, observer.requests());
    if (suspects.empty()) {
      return InvalidInput(
          fmt::format("this run never asks for {} at once: the message is of another configuration", message.tried));
    }
    for (const Request& request : suspects) {
      if (explanation.suspects.size() == kSuspects) break;
      SuspectedRequest suspect = Describe(request.allocation, request.event, request.requested, request.before);
      if (!Known(suspect, explanation.suspects)) explanation.suspects.push_back(std::move(suspect));
    }
    Result<AliveThen> alive = AliveAt(built_, allocator, *describer_, suspects.front().event);
    if (!alive.ok()) return alive.error();
    explanation.alive = *std::move(alive);
    return {};
  }

  // Requests of the message's size. First those before which about as much was allocated as it says (where it doesn't:
  // most), and that went to the driver.
  static std::vector<Request> RequestsOf(const FailureMessage& message, const std::vector<Request>& all) {
    std::vector<Request> requests;
    for (const Request& request : all) {
      const Bytes asked = request.segment > Bytes() ? request.segment : SegmentOf(request.requested);
      const bool same = FormatSize(asked) == message.tried || FormatSize(request.requested) == message.tried;
      if (same) requests.push_back(request);
    }
    const Bytes allocated = message.allocated.empty() ? kUnlimited : BytesOf(message.allocated);
    std::ranges::stable_sort(requests, {}, [&](const Request& request) {
      const Bytes difference = request.before.allocated - allocated;
      return std::pair(std::max(difference, -difference), request.segment == Bytes());
    });
    return requests;
  }

  // The same request of another micro-step is no news.
  static bool Known(const SuspectedRequest& suspect, const std::vector<SuspectedRequest>& others) {
    return std::ranges::any_of(others, [&](const SuspectedRequest& other) {
      return other.tensor.tensor == suspect.tensor.tensor && other.tensor.op == suspect.tensor.op &&
             other.at.phase == suspect.at.phase;
    });
  }

  // What PyTorch asks the driver for, with its usual settings.
  static Bytes SegmentOf(Bytes requested) {
    if (requested <= kMiB) return kMiB * 2;
    if (requested < kMiB * 10) return kMiB * 20;
    return RoundUp(requested, kMiB * 2);
  }

  const RunConfig& run_;
  const BuiltRun& built_;
  std::unique_ptr<Describer> describer_;
};

}  // namespace

Result<FailureMessage> ParseFailure(const std::string& message) {
  FailureMessage failure;
  failure.tried = SizeBehind(message, "Tried to allocate ");
  if (failure.tried.empty()) failure.tried = SizeBehind(message, "Requested size: ");
  if (failure.tried.empty()) {
    return InvalidInput(
        "the message lacks a size: quote PyTorch's whole text, as in \"CUDA out of memory. Tried to allocate 3.07 GiB. "
        "GPU 0 has a total capacity of …\"");
  }
  failure.total = SizeBehind(message, "total capacity of ");
  if (failure.total.empty()) failure.total = SizeBehind(message, "total capacty of ");  // as PyTorch 2.1 spells it
  if (failure.total.empty()) failure.total = SizeBefore(message, " total capacity");
  failure.free = SizeBefore(message, " is free");
  if (failure.free.empty()) failure.free = SizeBefore(message, " free;");
  failure.in_use = SizeBehind(message, "this process has ");
  failure.allocated = SizeBefore(message, " is allocated by PyTorch");
  if (failure.allocated.empty()) failure.allocated = SizeBefore(message, " already allocated");
  return failure;
}

Result<Explanation> ExplainRun(const RunConfig& run, const std::optional<FailureMessage>& message) {
  ASSIGN_OR_RETURN(const BuiltRun built, BuildRun(run, {}));
  Explainer explainer(run, built);
  return message ? explainer.OfMessage(*message) : explainer.AtPeak();
}

}  // namespace tidemark
