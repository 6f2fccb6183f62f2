#include "graph/op.h"

#include <array>

namespace tidemark {

const OpInfo& InfoOf(OpKind kind) {
  static constexpr std::array kOps = {
#define OP(kind, name, memory, cost, meaning) OpInfo{name, memory_rules::memory, CostClass::k##cost, meaning},
#include "graph/op_list.def"
#undef OP
  };
  return kOps[static_cast<size_t>(kind)];
}

Bytes CublasWorkspaceBytes(const DeviceSpec& device) {
  if (device.compute_capability >= 90) return kMiB * 32;
  return kKiB * (4096 * 2 + 16 * 8);
}

}  // namespace tidemark
