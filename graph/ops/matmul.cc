// Memory rule of matrix products.
#include "graph/op.h"

namespace tidemark::memory_rules {

void Matmul(const OpView&, const DeviceSpec&, MemoryPlan& plan) {
  plan.Result(0);
  plan.CublasWorkspace();
}

}  // namespace tidemark::memory_rules
