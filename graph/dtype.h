// Number formats, with PyTorch's names.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "graph/base/units.h"

namespace tidemark {

enum class DType : uint8_t { kFloat32, kFloat16, kBFloat16, kFloat64, kInt64, kInt32, kUInt8, kBool, kUInt64 };

// Bytes of one element.
constexpr Bytes SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
    case DType::kInt64:
    case DType::kUInt64:
      return Bytes(8);
    case DType::kFloat32:
    case DType::kInt32:
      return Bytes(4);
    case DType::kFloat16:
    case DType::kBFloat16:
      return Bytes(2);
    case DType::kUInt8:
    case DType::kBool:
      return Bytes(1);
  }
  return Bytes(0);
}

constexpr bool IsFloating(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16 || dtype == DType::kFloat64;
}
constexpr bool IsHalf(DType dtype) { return dtype == DType::kFloat16 || dtype == DType::kBFloat16; }

// "float32", "bfloat16", "int64", …
constexpr std::string_view Name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat64:
      return "float64";
    case DType::kInt64:
      return "int64";
    case DType::kInt32:
      return "int32";
    case DType::kUInt8:
      return "uint8";
    case DType::kBool:
      return "bool";
    case DType::kUInt64:
      return "uint64";
  }
  return "";
}

}  // namespace tidemark
