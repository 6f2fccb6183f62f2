#include "graph/micro_steps.h"

#include <algorithm>

namespace tidemark {

std::vector<MicroStep> MicroStepsOf(const Graph& graph) {
  std::vector<MicroStep> steps;
  Interval forward;  // of the micro-step that waits for its backward
  const Phase* phase = nullptr;
  int64_t began = 0;
  const auto end_phase = [&](int64_t position) {
    if (phase == nullptr) return;
    if (phase->name == "forward") forward = {began, position};
    if (phase->name == "backward" && !forward.empty()) {
      steps.push_back({phase->step, phase->micro_step, forward, {began, position}});
      forward = {};
    }
  };
  for (size_t i = 0; i < graph.program.size(); ++i) {
    if (graph.program[i].kind() != Step::Kind::kPhase) continue;
    const auto position = static_cast<int64_t>(i);
    end_phase(position);
    phase = &graph.phases[graph.program[i].phase()];
    began = position;
  }
  end_phase(static_cast<int64_t>(graph.program.size()));
  return steps;
}

std::string BlockOf(std::string_view scope) {
  size_t begin = 0;
  while (begin < scope.size()) {
    const size_t end = std::min(scope.find('.', begin), scope.size());
    const std::string_view part = scope.substr(begin, end - begin);
    const bool number = !part.empty() && std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
    if (number) return std::string(scope.substr(0, end));
    begin = end + 1;
  }
  return {};
}

}  // namespace tidemark
