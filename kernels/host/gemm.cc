#include "kernels/host/gemm.h"

#include <Eigen/Core>

#include "graph/base/check.h"

namespace tidemark::host {
namespace {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ColumnMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
template <typename Layout>
using ConstView = Eigen::Map<const Layout, 0, Eigen::OuterStride<>>;
using View = Eigen::Map<RowMajor, 0, Eigen::OuterStride<>>;

template <typename F>
void WithView(const ConstMatrix& m, const F& f) {
  CHECK(m.row_stride == 1 || m.column_stride == 1);
  if (m.column_stride == 1) {
    f(ConstView<RowMajor>(m.data, m.rows, m.columns, Eigen::OuterStride<>(m.row_stride)));
  } else {
    f(ConstView<ColumnMajor>(m.data, m.rows, m.columns, Eigen::OuterStride<>(m.column_stride)));
  }
}

}  // namespace

void Gemm(const ConstMatrix& a, const ConstMatrix& b, const Matrix& result, float factor, bool add) {
  CHECK(a.columns == b.rows);
  View to(result.data, a.rows, b.columns, Eigen::OuterStride<>(result.row_stride));
  WithView(a, [&](const auto& left) {
    WithView(b, [&](const auto& right) {
      if (!add) to.setZero();
      to.noalias() += factor * (left * right);
    });
  });
}

}  // namespace tidemark::host
