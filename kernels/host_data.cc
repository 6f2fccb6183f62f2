#include "kernels/host_data.h"

#include <cmath>
#include <cstring>
#include <string>

#include "graph/base/check.h"
#include "kernels/number.h"

namespace tidemark {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15U;

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

uint64_t SeedOf(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3U;
  return hash;
}

double ParameterValue(uint64_t seed, bool is_matrix, bool is_weight, uint64_t i) {
  const double unit = static_cast<double>(Mix(seed + (i + 1) * kGolden) >> 40) / 8388608.0 - 1.0;
  if (is_matrix) return 0.05 * unit;
  return is_weight ? 1.0 + 0.1 * unit : 0.02 * unit;
}

// Writes value(i) for every element, row-major.
template <typename Value>
std::vector<std::byte> Fill(const TensorInfo& t, Value value) {
  const int64_t n = NumElements(t.sizes);
  const auto bytes = static_cast<size_t>(SizeOf(t.dtype).count());
  std::vector<std::byte> result(static_cast<size_t>(n) * bytes);
  for (int64_t i = 0; i < n; ++i) StoreNumber(t.dtype, &result[static_cast<size_t>(i) * bytes], value(i));
  return result;
}

std::vector<std::byte> Tokens(const TensorInfo& t, const Attributes& a, int64_t shift) {
  const int64_t length = t.sizes.back();
  const uint64_t seed = SeedOf("tokens");
  const auto batch = static_cast<uint64_t>(a.integer[1]) << 32;
  return Fill(t, [&](int64_t i) {
    const int64_t row = i / length + static_cast<int64_t>(a.number);
    const int64_t at = row * (length + 1) + i % length + shift;
    const uint64_t hash = Mix(seed + (batch + static_cast<uint64_t>(at) + 1) * kGolden);
    return static_cast<double>(hash % static_cast<uint64_t>(a.integer[2]));
  });
}

}  // namespace

uint64_t HashOf(std::string_view name, uint64_t i) { return Mix(SeedOf(name) + (i + 1) * kGolden); }

double UnitOf(std::string_view name, uint64_t i) {
  return static_cast<double>(HashOf(name, i) >> 40) / 8388608.0 - 1.0;
}

Result<std::vector<std::byte>> HostBytes(const Graph& graph, const Op& op) {
  CHECK(op.kind == OpKind::kFromHost);
  const TensorInfo& t = graph.tensors[graph.Results(op)[0]];
  const Attributes a = op.attributes.valid() ? graph.attributes[op.attributes] : Attributes{};
  const ScopeId name_id = graph.storages[t.storage].name;
  const std::string name = name_id.valid() ? graph.scopes[name_id] : "";
  switch (static_cast<HostData>(a.integer[0])) {
    case HostData::kParameter: {
      const uint64_t seed = SeedOf(name);
      const bool is_weight = name.ends_with("weight");
      return Fill(
          t, [&](int64_t i) { return ParameterValue(seed, t.sizes.size() >= 2, is_weight, static_cast<uint64_t>(i)); });
    }
    case HostData::kTokens:
      return Tokens(t, a, 0);
    case HostData::kTargets:
      return Tokens(t, a, 1);
    case HostData::kLowerTriangle: {
      const int64_t columns = t.sizes.back();
      const int64_t rows = t.sizes[t.sizes.size() - 2];
      return Fill(t, [&](int64_t i) { return i % columns <= i / columns % rows ? 1.0 : 0.0; });
    }
    case HostData::kPositions:
      return Fill(t, [&](int64_t i) { return static_cast<double>(i % t.sizes.back()); });
    case HostData::kConstant:
      return Fill(t, [&](int64_t) { return a.number; });
    case HostData::kInverseFrequencies: {
      const auto n = static_cast<double>(NumElements(t.sizes));
      return Fill(t, [&](int64_t i) { return std::pow(a.number, -static_cast<double>(i) / n); });
    }
    case HostData::kUnknown:
      break;
  }
  return InvalidInput("can't execute this graph: nobody says what the host copies to " +
                      (name.empty() ? "a tensor" : name));
}

}  // namespace tidemark
