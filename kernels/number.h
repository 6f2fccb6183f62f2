// Single numbers in each number format: reading, and rounding to the nearest (ties to even) when writing.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "graph/dtype.h"

namespace tidemark {

inline float FloatOfBfloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

inline uint16_t Bfloat16Of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);  // a NaN stays one
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

inline float FloatOfFloat16(uint16_t half) {
  const uint32_t sign = (uint32_t{half} & 0x8000U) << 16;
  const uint32_t rest = uint32_t{half} & 0x7fffU;
  if (rest >= 0x7c00U) return std::bit_cast<float>(sign | 0x7f800000U | ((rest & 0x3ffU) << 13));
  // Scaling by 2^112 moves the exponent, and makes subnormal ones normal.
  const float scaled = std::bit_cast<float>(rest << 13) * 0x1p112F;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

inline uint16_t Float16Of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU));
  if (magnitude >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);  // from 65520 on: infinity
  if (magnitude < 0x38800000U) {  // below 2^-14: in steps of 2^-24, rounded by adding 2^-1's unit in the last place
    const float rounded = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(0.5F)));
  }
  const uint32_t rounded = magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

// The nearest number that the format has, on the host and on a device; of NaN the lowest.
template <typename To, typename T>
constexpr To IntegerOf(T v) {
  if constexpr (std::is_floating_point_v<T>) {
    constexpr To kHalf = std::numeric_limits<To>::max() / 2 + 1;
    constexpr T kEnd = static_cast<T>(kHalf) * 2;  // the first that is too large
    if (!(v > static_cast<T>(std::numeric_limits<To>::lowest()))) return std::numeric_limits<To>::lowest();
    if (v >= kEnd) return std::numeric_limits<To>::max();
  }
  return static_cast<To>(v);
}

// One number of any format as a double.
inline double LoadNumber(DType dtype, const std::byte* from) {
  const auto as = [from]<typename T>(T value) {
    std::memcpy(&value, from, sizeof(T));
    return value;
  };
  switch (dtype) {
    case DType::kFloat32:
      return as(float{});
    case DType::kFloat16:
      return FloatOfFloat16(as(uint16_t{}));
    case DType::kBFloat16:
      return FloatOfBfloat16(as(uint16_t{}));
    case DType::kFloat64:
      return as(double{});
    case DType::kInt64:
      return static_cast<double>(as(int64_t{}));
    case DType::kUInt64:
      return static_cast<double>(as(uint64_t{}));
    case DType::kInt32:
      return as(int32_t{});
    case DType::kUInt8:
    case DType::kBool:
      return as(uint8_t{});
  }
  return 0;
}

inline void StoreNumber(DType dtype, std::byte* to, double value) {
  const auto put = [to](auto number) { std::memcpy(to, &number, sizeof(number)); };
  switch (dtype) {
    case DType::kFloat32:
      return put(static_cast<float>(value));
    case DType::kFloat16:
      return put(Float16Of(static_cast<float>(value)));
    case DType::kBFloat16:
      return put(Bfloat16Of(static_cast<float>(value)));
    case DType::kFloat64:
      return put(value);
    case DType::kInt64:
      return put(IntegerOf<int64_t>(value));
    case DType::kUInt64:
      return put(IntegerOf<uint64_t>(value));
    case DType::kInt32:
      return put(IntegerOf<int32_t>(value));
    case DType::kUInt8:
      return put(IntegerOf<uint8_t>(value));
    case DType::kBool:
      return put(static_cast<uint8_t>(value != 0));
  }
}

}  // namespace tidemark
