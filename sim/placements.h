// The CSV of placements (contract, section 5): one row for each a, f and e event.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "graph/base/result.h"
#include "sim/replay.h"

namespace tidemark {

// Writes to a temporary file beside the path; Finish renames it. Without a successful Finish no file is left.
class PlacementsWriter final : public ReplayObserver {
 public:
  // "-" is standard output.
  static Result<std::unique_ptr<PlacementsWriter>> Create(const std::string& path);
  ~PlacementsWriter() override;
  PlacementsWriter(const PlacementsWriter&) = delete;
  PlacementsWriter& operator=(const PlacementsWriter&) = delete;

  void OnEvent(const Observation& observation) override;
  // Error: what the disk said.
  Status Finish();

 private:
  PlacementsWriter(std::string path, std::string temporary, std::FILE* file);
  void Flush();

  std::string path_;
  std::string temporary_;
  std::FILE* file_ = nullptr;
  std::string buffer_;
  uint64_t rows_ = 0;
  bool failed_ = false;
};

}  // namespace tidemark
