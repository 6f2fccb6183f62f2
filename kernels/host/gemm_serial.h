// The product of a panel by one thread, with Eigen. Included once for each set of instructions, with TIDEMARK_GEMM the
// function's name and, where the instructions aren't those of the rest of the program, Eigen a macro for another name:
// what the compiler makes of Eigen's inline functions must not be mixed.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>

#include "kernels/host/gemm.h"

namespace tidemark::host {

void TIDEMARK_GEMM(const ConstMatrix& a, const ConstMatrix& b, const Matrix& result, float factor, bool add) {
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using ColumnMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
  using Stride = Eigen::OuterStride<>;
  Eigen::Map<RowMajor, 0, Stride> to(result.data, a.rows, b.columns, Stride(result.row_stride));
  const auto multiply = [&](const auto& left, const auto& right) {
    if (!add) to.setZero();
    to.noalias() += factor * (left * right);
  };
  const auto with_left = [&](const auto& left) {
    if (b.column_stride == 1) {
      multiply(left, Eigen::Map<const RowMajor, 0, Stride>(b.data, b.rows, b.columns, Stride(b.row_stride)));
    } else {
      multiply(left, Eigen::Map<const ColumnMajor, 0, Stride>(b.data, b.rows, b.columns, Stride(b.column_stride)));
    }
  };
  if (a.column_stride == 1) {
    with_left(Eigen::Map<const RowMajor, 0, Stride>(a.data, a.rows, a.columns, Stride(a.row_stride)));
  } else {
    with_left(Eigen::Map<const ColumnMajor, 0, Stride>(a.data, a.rows, a.columns, Stride(a.column_stride)));
  }
}

}  // namespace tidemark::host
