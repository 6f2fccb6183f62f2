#include "kernels/host/elements.h"

#include "graph/base/check.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace tidemark::host {
namespace {

#if defined(__x86_64__)
// Whole groups of 8; returns how many elements that are.
__attribute__((target("avx,f16c"))) int64_t LoadInEights(const uint16_t* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
  return i;
}
__attribute__((target("avx,f16c"))) int64_t StoreInEights(const float* from, int64_t n, uint16_t* to) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  return i;
}
// Asked of the processor itself: clang's __builtin_cpu_supports knows the feature from version 19 on.
bool HasF16c() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __builtin_cpu_supports("avx") && __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
const bool kHasF16c = HasF16c();
#else
constexpr bool kHasF16c = false;
int64_t LoadInEights(const uint16_t*, int64_t, float*) { return 0; }
int64_t StoreInEights(const float*, int64_t, uint16_t*) { return 0; }
#endif

}  // namespace

void FloatsOfFloat16s(const uint16_t* from, int64_t n, float* to) {
  for (int64_t i = kHasF16c ? LoadInEights(from, n, to) : 0; i < n; ++i) to[i] = FloatOfFloat16(from[i]);
}
void Float16sOf(const float* from, int64_t n, uint16_t* to) {
  for (int64_t i = kHasF16c ? StoreInEights(from, n, to) : 0; i < n; ++i) to[i] = Float16Of(from[i]);
}

Elements::Elements(const TensorSpan& t, const Dims& sizes) : data_(t.data), dtype_(t.dtype) {
  const int leading = sizes.size() - t.sizes.size();
  CHECK(leading >= 0);
  for (int i = 0; i < sizes.size(); ++i) {
    size_ *= sizes[i];
    if (sizes[i] == 1) continue;
    const bool stretched = i < leading || t.sizes[i - leading] == 1;
    CHECK(stretched || t.sizes[i - leading] == sizes[i]);
    const int64_t stride = stretched ? 0 : t.strides[i - leading];
    const auto u = static_cast<size_t>(dims_);
    if (dims_ > 0 && strides_[u - 1] == stride * sizes[i]) {
      sizes_[u - 1] *= sizes[i];
      strides_[u - 1] = stride;
    } else {
      sizes_[u] = sizes[i];
      strides_[u] = stride;
      ++dims_;
    }
  }
  if (dims_ == 0) {
    sizes_[0] = 1;
    strides_[0] = 1;
    dims_ = 1;
  }
}

std::vector<float> Floats(const TensorSpan& t) {
  const Elements elements(t);
  std::vector<float> values(static_cast<size_t>(elements.size()));
  elements.Load(0, elements.size(), values.data());
  return values;
}

void StoreFloats(const TensorSpan& t, const float* from) {
  const Elements elements(t);
  elements.Store(0, elements.size(), from);
}

int64_t IntegerAt(const TensorSpan& t, int64_t offset) {
  const std::byte* from = t.data + offset * SizeOf(t.dtype).count();
  if (t.dtype == DType::kInt64) {
    int64_t value = 0;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  return static_cast<int64_t>(LoadNumber(t.dtype, from));
}

std::vector<int64_t> Integers(const TensorSpan& t) {
  std::vector<int64_t> values(static_cast<size_t>(NumElements(t.sizes)));
  TensorSpan offsets = t;
  std::array<int64_t, Dims::kMaxDims> at{};
  int64_t offset = 0;
  for (int64_t& value : values) {
    value = IntegerAt(offsets, offset);
    for (int d = t.sizes.size(); d-- > 0;) {
      const auto u = static_cast<size_t>(d);
      offset += t.strides[d];
      if (++at[u] < t.sizes[d]) break;
      offset -= t.strides[d] * t.sizes[d];
      at[u] = 0;
    }
  }
  return values;
}

}  // namespace tidemark::host
