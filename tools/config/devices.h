// The devices that the program knows: configs/devices/*.yaml, which are compiled in. A folder named by the environment
// variable TIDEMARK_DEVICES adds to them and wins over them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "graph/device.h"
#include "tools/config/document.h"

namespace tidemark {

// Names that a run file may use, sorted.
std::vector<std::string> DeviceNames();

// The device of that name ("rtx4070"). `place` says where the name stands, for the error.
Result<DeviceSpec> FindDevice(const std::string& name, const std::string& place);

// A run file's `device`: a name, or a map with name, memory, compute_capability, multiprocessors, overhead, … Where the
// map's name is a known device's, what it leaves out is that device's. Sizes without a unit are MiB.
Result<DeviceSpec> ReadDevice(const DocumentNode& node);

// Context, modules and libraries of a device of which only this is known; see reference [1] in devices.cc.
Estimate EstimateOverhead(int multiprocessors, int threads_per_multiprocessor);

}  // namespace tidemark
