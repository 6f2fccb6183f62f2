// What copies from the host hold. Whoever wants to compute the same numbers elsewhere (the goldens of tests/golden do
// it in Python) needs only this page.
//
//   Mix(z)       z ^= z >> 30; z *= 0xbf58476d1ce4e5b9; z ^= z >> 27; z *= 0x94d049bb133111eb; z ^= z >> 31   (64 bits)
//   Seed(name)   FNV-1a of the bytes of the name, 64 bits
//   Hash(name,i) Mix(Seed(name) + (i + 1) * 0x9e3779b97f4a7c15)
//   Unit(name,i) (Hash(name, i) >> 40) / 2^23 - 1, in [-1, 1)
//
// Element i (row-major) of a parameter, in double precision and then rounded to its number format:
//   two dimensions and more         0.05 * Unit(name, i)
//   one dimension, "….weight"       1 + 0.1 * Unit(name, i)
//   one dimension, else             0.02 * Unit(name, i)
// Token t of row r of batch b, of B rows and T tokens: Hash("tokens", (b << 32) + r * (T + 1) + t) mod vocab, t <= T;
// targets are the tokens from t = 1 on. Rows count from the attribute `number` on: of the batch that a micro-batch is a
// part of.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "graph/graph.h"

namespace tidemark {

uint64_t HashOf(std::string_view name, uint64_t i);
double UnitOf(std::string_view name, uint64_t i);

// The bytes of the result of a kFromHost, row-major. Error: nobody has said what it holds.
Result<std::vector<std::byte>> HostBytes(const Graph& graph, const Op& op);

}  // namespace tidemark
