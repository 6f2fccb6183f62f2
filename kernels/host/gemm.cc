#include "kernels/host/gemm.h"

#include <algorithm>

#include "graph/base/check.h"
#include "kernels/host/parallel.h"

namespace tidemark::host {

using SerialGemm = void (*)(const ConstMatrix&, const ConstMatrix&, const Matrix&, float, bool);
void GemmBaseline(const ConstMatrix& a, const ConstMatrix& b, const Matrix& result, float factor, bool add);
#ifdef TIDEMARK_HAS_AVX2_GEMM
void GemmAvx2(const ConstMatrix& a, const ConstMatrix& b, const Matrix& result, float factor, bool add);
#endif

namespace {

SerialGemm Choose() {
#ifdef TIDEMARK_HAS_AVX2_GEMM
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &GemmAvx2;
#endif
  return &GemmBaseline;
}

// Of n rows or columns, each of which takes `work` multiplications. Panels depend on sizes only, so that the result
// doesn't depend on the number of cores; each reads the other matrix anew, which small ones can't make up for.
int64_t PanelOf(int64_t n, int64_t work) {
  constexpr int64_t kWorth = int64_t{1} << 21;
  const int64_t panel = std::max(n / 16, kWorth / std::max<int64_t>(work, 1));
  return std::clamp((panel + 31) / 32 * 32, int64_t{64}, int64_t{512});
}

}  // namespace

void Gemm(const ConstMatrix& a, const ConstMatrix& b, const Matrix& result, float factor, bool add) {
  static const SerialGemm kSerial = Choose();
  CHECK(a.columns == b.rows);
  for (const ConstMatrix* m : {&a, &b}) CHECK(m->row_stride == 1 || m->column_stride == 1);
  if (a.rows >= b.columns) {
    const int64_t panel = PanelOf(a.rows, b.columns * a.columns);
    Parallel((a.rows + panel - 1) / panel, panel * b.columns * a.columns / 8, [&](int64_t i) {
      ConstMatrix part = a;
      part.data += i * panel * a.row_stride;
      part.rows = std::min(panel, a.rows - i * panel);
      kSerial(part, b, {result.data + i * panel * result.row_stride, result.row_stride}, factor, add);
    });
    return;
  }
  const int64_t panel = PanelOf(b.columns, a.rows * a.columns);
  Parallel((b.columns + panel - 1) / panel, panel * a.rows * a.columns / 8, [&](int64_t i) {
    ConstMatrix part = b;
    part.data += i * panel * b.column_stride;
    part.columns = std::min(panel, b.columns - i * panel);
    kSerial(a, part, {result.data + i * panel, result.row_stride}, factor, add);
  });
}

}  // namespace tidemark::host
