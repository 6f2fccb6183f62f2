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

std::string_view IdentifierOf(OpKind kind) {
  static constexpr std::array<std::string_view, kOpKinds> kIdentifiers = {
#define OP(kind, name, memory, cost, meaning) #kind,
#include "graph/op_list.def"
#undef OP
  };
  return kIdentifiers[static_cast<size_t>(kind)];
}

std::vector<OpKind> KindsNamed(std::string_view name) {
  std::vector<OpKind> kinds;
  for (int i = 0; i < kOpKinds; ++i) {
    const auto kind = static_cast<OpKind>(i);
    const std::string_view full = InfoOf(kind).name;
    if (full == name || full.substr(full.rfind(':') + 1) == name) kinds.push_back(kind);
  }
  return kinds;
}

Bytes CublasWorkspaceBytes(const DeviceSpec& device) {
  if (device.compute_capability >= 90) return kMiB * 32;
  return kKiB * (4096 * 2 + 16 * 8);
}

}  // namespace tidemark
