#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/config/size.h"
#include "tools/explain/explain.h"
#include "tools/tape_marks.h"

namespace tidemark {
namespace {

using Json = nlohmann::ordered_json;

constexpr Bytes kLittle{51 << 10};  // groups below share a line

std::string TypeOf(const std::string& dtype, const std::vector<int64_t>& shape) {
  return dtype.empty() ? "" : fmt::format(" {}[{}]", dtype, fmt::join(shape, ", "));
}

class Writer {
 public:
  Writer(const Explanation& explanation, TextStyle style) : explanation_(explanation), style_(style) {}

  std::string Run() {
    Line("{}", explanation_.title);
    Line("on {}", explanation_.device);
    if (explanation_.message) Request();
    Alive();
    return std::move(text_);
  }

 private:
  template <typename... T>
  void Line(fmt::format_string<T...> format, T&&... values) {
    text_ += fmt::format(format, std::forward<T>(values)...);
    while (text_.ends_with(' ')) text_.pop_back();
    text_ += '\n';
  }
  std::string Bold(const std::string& words) const { return style_.colour ? kBold + words + kPlain : words; }

  void Request() {
    Line("");
    Line("{}", Bold(explanation_.reproduced ? "THE REQUEST THAT FAILS: " + explanation_.message->tried
                                            : "REQUESTS OF " + explanation_.message->tried));
    for (const SuspectedRequest& suspect : explanation_.suspects) {
      Line("  {}{}: {:.1f} MiB", suspect.tensor.tensor, TypeOf(suspect.tensor.dtype, suspect.tensor.shape),
           suspect.requested / kMiB);
      Line("    by {}, in {}; before it {:.1f} MiB are allocated, {:.1f} reserved", suspect.tensor.op,
           DescribeMoment(suspect.at), suspect.allocated / kMiB, suspect.reserved / kMiB);
    }
    if (explanation_.reproduced) {
      Line("  the simulated run fails with this very request");
    } else {
      Line("  the simulated run doesn't fail so; nearest first to the {} that the message says are allocated",
           explanation_.message->allocated.empty() ? "memory" : explanation_.message->allocated);
    }
    const std::string here = FormatSize(explanation_.device_memory);
    if (!explanation_.message->total.empty() && explanation_.message->total != here) {
      Line("  the message is of a card with {}, this configuration of one with {}", explanation_.message->total, here);
    }
    Line("  what would help: tidemark fit CONFIG --budget SIZE, tidemark compare CONFIG --with …");
  }

  void Alive() {
    const AliveThen& alive = explanation_.alive;
    Line("");
    Line("{}", Bold(fmt::format("Alive {}: {:.1f} MiB allocated, of {:.1f} reserved",
                                explanation_.message ? "then" : "at the peak", alive.allocated / kMiB,
                                alive.reserved / kMiB)));
    Line("  in {}{}", DescribeMoment(alive.at), alive.at.op.empty() ? "" : ", at " + alive.at.op);
    for (const CategoryBytes& category : alive.categories) {
      if (category.bytes == Bytes()) continue;
      Line("");
      Line("{:>10.1f}  {}", category.bytes / kMiB, Bold(category.category));
      Groups(category.category);
    }
  }

  void Groups(const std::string& category) {
    int64_t small = 0;
    Bytes small_bytes;
    for (const AliveGroup& group : explanation_.alive.groups) {
      if (group.category != category) continue;
      if (group.bytes < kLittle && !style_.verbose) {
        small += group.count;
        small_bytes += group.bytes;
        continue;
      }
      const std::string count = group.count == 1 ? "" : fmt::format("{} x ", group.count);
      Line("{:>10.1f}    {}{}{}", group.bytes / kMiB, count, group.tensor, TypeOf(group.dtype, group.shape));
      Line("{:>14}{}{}", "", group.op.empty() ? "" : "by " + group.op + "; ", group.why);
    }
    if (small > 0) Line("{:>10.1f}    {} smaller ones (-v names them)", small_bytes / kMiB, small);
    if (category == "rounding") Line("{:>14}blocks are multiples of 512 bytes, and pieces too small to split stay", "");
  }

  const Explanation& explanation_;
  TextStyle style_;
  std::string text_;
};

Json MomentJson(const Moment& at) {
  return {{"step", at.step}, {"micro_step", at.micro_step}, {"phase", at.phase}, {"op", at.op}};
}

Json SuspectJson(const SuspectedRequest& suspect) {
  return {{"tensor", suspect.tensor.tensor},
          {"op", suspect.tensor.op},
          {"dtype", suspect.tensor.dtype},
          {"shape", suspect.tensor.shape},
          {"requested_bytes", suspect.requested.count()},
          {"allocated_before_bytes", suspect.allocated.count()},
          {"reserved_before_bytes", suspect.reserved.count()},
          {"at", MomentJson(suspect.at)}};
}

Json AliveJson(const AliveThen& alive) {
  Json categories = Json::array();
  for (const CategoryBytes& category : alive.categories) {
    categories.push_back({{"category", category.category}, {"bytes", category.bytes.count()}});
  }
  Json groups = Json::array();
  for (const AliveGroup& group : alive.groups) {
    groups.push_back({{"category", group.category},
                      {"tensor", group.tensor},
                      {"op", group.op},
                      {"dtype", group.dtype},
                      {"shape", group.shape},
                      {"count", group.count},
                      {"bytes", group.bytes.count()},
                      {"why", group.why}});
  }
  return {{"at", MomentJson(alive.at)},
          {"allocated_bytes", alive.allocated.count()},
          {"reserved_bytes", alive.reserved.count()},
          {"breakdown", std::move(categories)},
          {"groups", std::move(groups)}};
}

}  // namespace

std::string ExplainText(const Explanation& explanation, TextStyle style) { return Writer(explanation, style).Run(); }

std::string ExplainJson(const Explanation& explanation) {
  Json json = {{"schema", "tidemark.explain/1"}};
  if (explanation.message) {
    const FailureMessage& m = *explanation.message;
    json["message"] = {
        {"tried", m.tried}, {"total", m.total}, {"free", m.free}, {"in_use", m.in_use}, {"allocated", m.allocated}};
    json["reproduced"] = explanation.reproduced;
    json["requests"] = Json::array();
    for (const SuspectedRequest& suspect : explanation.suspects) json["requests"].push_back(SuspectJson(suspect));
  }
  json["alive"] = AliveJson(explanation.alive);
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tidemark
