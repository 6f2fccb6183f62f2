// A run file (contract, section 3) as a RunConfig with every default filled in. What a Hugging Face config.json or a
// nanoGPT configuration says becomes the same thing: the reader tells the three apart by their content.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "graph/run_config.h"
#include "tools/config/document.h"

namespace tidemark {

struct LoadedRun {
  RunConfig config;
  std::vector<std::string> notes;  // what was assumed or ignored, for whoever asked: one line each
};

// Reads the configuration `path` ("-": standard input) and applies `overrides` ("training.micro_batch=8") in order.
Result<LoadedRun> LoadRun(const std::string& path, std::span<const std::string> overrides);

// The same of a text that `name` stands for in messages.
Result<LoadedRun> ParseRun(std::string_view text, const std::string& name, std::span<const std::string> overrides);

// A run file's tree as a configuration.
Result<RunConfig> ReadRun(const DocumentNode& root);

}  // namespace tidemark
