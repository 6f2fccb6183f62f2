#include "kernels/host/elements.h"

#include "graph/base/check.h"

namespace tidemark::host {

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
