// A training run as a plain PyTorch program that a person can read and run on a GPU of their own.
#pragma once

#include <string>

#include "graph/base/result.h"
#include "graph/run_config.h"

namespace tidemark {

// The program. `title` says in a line what is trained. Run as `python run.py [NAME]` it writes NAME.pickle (PyTorch's
// memory snapshot, with every event since the start) and NAME.json (device, versions, statistics, the message of an
// out-of-memory). Every name in it holds what the same name of the simulated loop holds, for as long: changing where
// one is bound changes what is measured. Error: what PyTorch's own allocator history can't show.
Result<std::string> PyTorchScript(const RunConfig& run, const std::string& title);

// Its parts that depend on the model: the classes or the import, and an expression that makes the model.
struct ModelScript {
  std::string definition;
  std::string construction;  // statements that bind `model`, on the host
};
ModelScript NanogptScript(const RunConfig& run);
ModelScript TransformersScript(const RunConfig& run);

// "torch.bfloat16": the format of the weights.
std::string WeightFormat(Precision precision);

}  // namespace tidemark
