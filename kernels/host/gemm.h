// Matrix products of fp32 numbers (gemm.cc holds Eigen).
#pragma once

#include <cstdint>

namespace tidemark::host {

// A matrix in memory: element (i, j) at data[i * row_stride + j * column_stride], one of the strides being 1.
struct ConstMatrix {
  const float* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_stride = 0;
  int64_t column_stride = 1;
  ConstMatrix Transposed() const { return {data, columns, rows, column_stride, row_stride}; }
};

// Row-major.
struct Matrix {
  float* data = nullptr;
  int64_t row_stride = 0;
};

// result = factor * a b, or result += factor * a b. On all cores, unless within Parallel.
void Gemm(const ConstMatrix& a, const ConstMatrix& b, const Matrix& result, float factor = 1, bool add = false);

}  // namespace tidemark::host
