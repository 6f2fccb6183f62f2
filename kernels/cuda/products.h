// Matrix products as cuBLAS takes them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "kernels/backend.h"

namespace tidemark::cuda {

// A matrix (or a batch of them) in memory, as a BLAS sees it: column-major with a leading dimension.
struct BlasMatrix {
  const void* data = nullptr;
  bool transposed = false;  // what lies there column-major is the matrix's transpose
  int64_t leading = 0;
  int64_t batch_stride = 0;
};

// Nothing: neither rows nor columns follow each other.
inline std::optional<BlasMatrix> BlasMatrixOf(const TensorSpan& t) {
  const int last = t.sizes.size() - 1;
  const int64_t rows = t.sizes[last - 1];
  const int64_t columns = t.sizes[last];
  const int64_t row_stride = t.strides[last - 1];
  const int64_t column_stride = t.strides[last];
  const int64_t batch_stride = last > 1 ? t.strides[0] : 0;
  if (column_stride == 1 || columns == 1) {
    if (row_stride >= columns || rows == 1)
      return BlasMatrix{t.data, true, std::max(row_stride, columns), batch_stride};
  }
  if (row_stride == 1 || rows == 1) {
    if (column_stride >= rows || columns == 1) {
      return BlasMatrix{t.data, false, std::max(column_stride, rows), batch_stride};
    }
  }
  return std::nullopt;
}

}  // namespace tidemark::cuda
