#include "graph/functional.h"

namespace tidemark {

Tensor Arange(Tracer& tracer, int64_t start, int64_t end) {
  return tracer.Emit(OpKind::kArange, {}, Contiguous(DType::kInt64, {end - start}),
                     {.number = static_cast<double>(start)});
}

Tensor Full(Tracer& tracer, DType dtype, const Dims& sizes, double value, Role role) {
  return tracer.Emit(OpKind::kFull, {}, Contiguous(dtype, sizes, role), {.number = value});
}

Tensor FromHost(Tracer& tracer, DType dtype, const Dims& sizes, Role role, const HostSource& source) {
  return tracer.Emit(
      OpKind::kFromHost, {}, Contiguous(dtype, sizes, role),
      {.number = source.number, .integer = {static_cast<int64_t>(source.data), source.batch, source.vocab}});
}

}  // namespace tidemark
