// A report as one HTML page that needs no network: the verdict; what is alive through the run, stacked by category,
// with phases, reserved memory and the device's size; what is alive at the peak; phases; every number of the JSON
// report.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/replay.h"
#include "tools/describe.h"
#include "tools/report.h"

namespace tidemark {

// Remembers what each event changes. 24 bytes an event.
class HtmlObserver final : public ReplayObserver {
 public:
  struct Change {
    uint64_t event = 0;
    AllocationId allocation;  // invalid: none
    Bytes block;              // added; negative: freed
    Bytes reserved;           // after it
  };
  void OnEvent(const Observation& observation) override;
  const std::vector<Change>& changes() const { return changes_; }

 private:
  std::vector<Change> changes_;
};

struct HtmlInput {
  const HtmlObserver& observer;
  const Report& report;
  const Describer& describer;
};

// The curve keeps the highest moment of each of kHtmlColumns stretches of the run: the peak is never lost.
constexpr size_t kHtmlColumns = 1200;
std::string ReportHtml(const HtmlInput& input);

}  // namespace tidemark
