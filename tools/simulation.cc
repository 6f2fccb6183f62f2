#include "tools/simulation.h"

#include <fmt/format.h>

#include "tools/config/words.h"

namespace tidemark {

std::string TitleOf(const RunConfig& run) {
  const ModelConfig& m = run.model;
  const TrainingConfig& t = run.training;
  const std::string length = t.sequence.size() == 1 ? fmt::format("{}", t.sequence[0]) : "varying";
  return fmt::format("{} ({}), {} layers, hidden {}, batch {} x {}, accumulation {}, {}, {} {}",
                     WordOf(kFamilyWords, m.family), WordOf(kImplementationWords, m.implementation), m.layers, m.hidden,
                     t.micro_batch, length, t.gradient_accumulation, WordOf(kPrecisionWords, t.precision),
                     WordOf(kOptimizerWords, t.optimizer.kind),
                     WordOf(kOptimizerImplementationWords, t.optimizer.implementation));
}

AllocatorOptions AllocatorOf(const RunConfig& run) {
  AllocatorOptions options;
  options.backend = run.allocator.backend;
  options.framework = run.framework;
  options.conf = run.allocator.conf;
  options.device_memory = run.device.memory;
  options.process_overhead = run.device.overhead.value;
  return options;
}

}  // namespace tidemark
