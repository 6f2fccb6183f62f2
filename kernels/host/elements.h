// Reads and writes ranges of a tensor's elements as numbers of another format, whatever its strides and format are.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "kernels/backend.h"
#include "kernels/number.h"

namespace tidemark::host {

constexpr int64_t kChunk = 1024;  // elements that loops work on at a time

// The elements of a tensor in row-major order of `sizes`, to which it is broadcast.
class Elements {
 public:
  explicit Elements(const TensorSpan& t) : Elements(t, t.sizes) {}
  Elements(const TensorSpan& t, const Dims& sizes);

  // Elements [begin, begin + n) as T (float or double). False: a byte that is no truth value.
  template <typename T>
  bool Load(int64_t begin, int64_t n, T* to) const;
  template <typename T>
  void Store(int64_t begin, int64_t n, const T* from) const;
  int64_t size() const { return size_; }

 private:
  // Calls run(offset in elements, stride, index in the range, count) for each run along the last dimension.
  template <typename Run>
  void ForRuns(int64_t begin, int64_t n, Run run) const;

  std::byte* data_;
  DType dtype_;
  int64_t size_ = 1;
  int dims_ = 0;  // neighbouring dimensions that are one run in memory are merged
  std::array<int64_t, Dims::kMaxDims> sizes_{};
  std::array<int64_t, Dims::kMaxDims> strides_{};
};

// All elements as a vector of floats; rows of the last dimension follow each other.
std::vector<float> Floats(const TensorSpan& t);
void StoreFloats(const TensorSpan& t, const float* from);

// Integers, exactly.
int64_t IntegerAt(const TensorSpan& t, int64_t offset);  // offset in elements
std::vector<int64_t> Integers(const TensorSpan& t);

inline bool IsContiguous(const TensorSpan& t) { return tidemark::IsContiguous(t.sizes, t.strides); }

// Runs of float16, with the processor's own instructions where it has them; the same bits as number.h either way.
void FloatsOfFloat16s(const uint16_t* from, int64_t n, float* to);
void Float16sOf(const float* from, int64_t n, uint16_t* to);

// --- Inline from here on

template <typename Run>
void Elements::ForRuns(int64_t begin, int64_t n, Run run) const {
  if (n == 0) return;
  std::array<int64_t, Dims::kMaxDims> at{};
  int64_t rest = begin;
  int64_t offset = 0;
  for (int d = dims_; d-- > 0;) {
    const auto u = static_cast<size_t>(d);
    at[u] = rest % sizes_[u];
    rest /= sizes_[u];
    offset += at[u] * strides_[u];
  }
  const auto last = static_cast<size_t>(dims_ - 1);
  for (int64_t done = 0; done < n;) {
    const int64_t count = std::min(n - done, sizes_[last] - at[last]);
    run(offset, strides_[last], done, count);
    done += count;
    offset += count * strides_[last];
    at[last] += count;
    for (size_t d = last; d > 0 && at[d] == sizes_[d]; --d) {
      offset += strides_[d - 1] - strides_[d] * sizes_[d];
      at[d] = 0;
      ++at[d - 1];
    }
  }
}

template <typename From, typename T, typename Convert>
void LoadRun(const From* from, int64_t stride, int64_t n, T* to, Convert convert) {
  if constexpr (Convert::kIsFloat16 && std::is_same_v<T, float>) {
    if (stride == 1) return FloatsOfFloat16s(from, n, to);
  }
  if (stride == 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = convert(from[i]);
  } else if (stride == 0) {
    std::fill(to, to + n, convert(*from));
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = convert(from[i * stride]);
  }
}

// How numbers of a format become T, and back.
template <typename T>
struct Plain {
  static constexpr bool kIsFloat16 = false;
  T operator()(auto v) const { return static_cast<T>(v); }
};
template <typename T>
struct FromFloat16 {
  static constexpr bool kIsFloat16 = true;
  T operator()(uint16_t v) const { return static_cast<T>(FloatOfFloat16(v)); }
};
template <typename T>
struct FromBfloat16 {
  static constexpr bool kIsFloat16 = false;
  T operator()(uint16_t v) const { return static_cast<T>(FloatOfBfloat16(v)); }
};

template <typename T>
bool Elements::Load(int64_t begin, int64_t n, T* to) const {
  bool valid = true;
  const auto load = [&]<typename From>(From, auto convert) {
    ForRuns(begin, n, [&](int64_t offset, int64_t stride, int64_t done, int64_t count) {
      LoadRun(reinterpret_cast<const From*>(data_) + offset, stride, count, to + done, convert);
    });
  };
  constexpr Plain<T> kPlain;
  switch (dtype_) {
    case DType::kFloat32:
      load(float{}, kPlain);
      break;
    case DType::kFloat16:
      load(uint16_t{}, FromFloat16<T>());
      break;
    case DType::kBFloat16:
      load(uint16_t{}, FromBfloat16<T>());
      break;
    case DType::kFloat64:
      load(double{}, kPlain);
      break;
    case DType::kInt64:
      load(int64_t{}, kPlain);
      break;
    case DType::kUInt64:
      load(uint64_t{}, kPlain);
      break;
    case DType::kInt32:
      load(int32_t{}, kPlain);
      break;
    case DType::kUInt8:
      load(uint8_t{}, kPlain);
      break;
    case DType::kBool:
      load(uint8_t{}, kPlain);
      for (int64_t i = 0; i < n; ++i) valid = valid && to[i] <= T{1};
      break;
  }
  return valid;
}

template <typename T>
void Elements::Store(int64_t begin, int64_t n, const T* from) const {
  const auto store = [&]<typename To>(To, auto convert) {
    ForRuns(begin, n, [&](int64_t offset, int64_t stride, int64_t done, int64_t count) {
      To* to = reinterpret_cast<To*>(data_) + offset;
      for (int64_t i = 0; i < count; ++i) to[i * stride] = convert(from[done + i]);
    });
  };
  switch (dtype_) {
    case DType::kFloat32:
      return store(float{}, [](T v) { return static_cast<float>(v); });
    case DType::kFloat16:
      if constexpr (std::is_same_v<T, float>) {
        return ForRuns(begin, n, [&](int64_t offset, int64_t stride, int64_t done, int64_t count) {
          uint16_t* to = reinterpret_cast<uint16_t*>(data_) + offset;
          if (stride == 1) return Float16sOf(from + done, count, to);
          for (int64_t i = 0; i < count; ++i) to[i * stride] = Float16Of(from[done + i]);
        });
      }
      return store(uint16_t{}, [](T v) { return Float16Of(static_cast<float>(v)); });
    case DType::kBFloat16:
      return store(uint16_t{}, [](T v) { return Bfloat16Of(static_cast<float>(v)); });
    case DType::kFloat64:
      return store(double{}, [](T v) { return static_cast<double>(v); });
    case DType::kInt64:
      return store(int64_t{}, [](T v) { return IntegerOf<int64_t>(v); });
    case DType::kUInt64:
      return store(uint64_t{}, [](T v) { return IntegerOf<uint64_t>(v); });
    case DType::kInt32:
      return store(int32_t{}, [](T v) { return IntegerOf<int32_t>(v); });
    case DType::kUInt8:
      return store(uint8_t{}, [](T v) { return IntegerOf<uint8_t>(v); });
    case DType::kBool:
      return store(uint8_t{}, [](T v) { return static_cast<uint8_t>(v != T{0}); });
  }
}

}  // namespace tidemark::host
