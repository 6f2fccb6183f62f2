// The CSV of placements (contract, section 5): one row for each a, f and e event.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "graph/base/result.h"
#include "sim/output_file.h"
#include "sim/replay.h"

namespace tidemark {

// The file appears with a successful Finish, whole; without one, nothing does.
class PlacementsWriter final : public ReplayObserver {
 public:
  // "-" is standard output.
  static Result<std::unique_ptr<PlacementsWriter>> Create(const std::string& path);

  void OnEvent(const Observation& observation) override;
  // Error: what the disk said.
  Status Finish();

 private:
  explicit PlacementsWriter(OutputFile file);

  OutputFile file_;
  std::string buffer_;
  uint64_t rows_ = 0;
};

}  // namespace tidemark
