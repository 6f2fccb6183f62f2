// What of a GPU decides memory and time.
#pragma once

#include <cstdint>
#include <string>

#include "graph/base/units.h"

namespace tidemark {

// A value with the range in which it is believed to lie: value - below … value + above.
struct Estimate {
  Bytes value;
  Bytes below;
  Bytes above;
  bool operator==(const Estimate&) const = default;
};

struct DeviceSpec {
  std::string name;             // "NVIDIA GeForce RTX 4070"
  Bytes memory;                 // what CUDA can hand out to everybody, nvidia-smi's total less the firmware's share
  int compute_capability = 89;  // 89: sm_89
  int multiprocessors = 46;
  int threads_per_multiprocessor = 1536;  // resident
  Bytes l2_cache = kMiB * 36;             // second-level cache
  // What the process takes beside the allocator's segments: context, modules, libraries.
  Estimate overhead;
  double memory_bandwidth = 0;  // bytes per second
  double peak_flops_fp32 = 0;   // per second, without tensor cores
  double peak_flops_tf32 = 0;   // per second, dense tensor cores
  double peak_flops_half = 0;   // per second, fp16 and bf16 with fp32 accumulation, dense tensor cores
  bool operator==(const DeviceSpec&) const = default;
};

}  // namespace tidemark
