// What cuDNN's attention allocates, as recorded on an H100 (tests/truth/h100/attention.csv).
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "graph/autograd.h"
#include "graph/functional.h"
#include "sim/lower.h"

namespace tidemark {
namespace {

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

struct Case {
  DType dtype = DType::kBFloat16;
  int64_t batch = 0, heads = 0, kv_heads = 0, queries = 0, keys = 0, dim = 0;
  bool causal = false;
  std::string mask;    // none, float, bool, broadcast
  std::string layout;  // of q, k and v in memory: bthd, bhtd
  std::string forward, backward;
};

std::vector<std::pair<std::string, Case>> ReadCases() {
  std::vector<std::pair<std::string, Case>> cases;
  std::ifstream file(TIDEMARK_SOURCE_DIR "/tests/truth/h100/attention.csv");
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    const std::vector<std::string> f = Split(line, ',');
    const auto number = [&](size_t i) { return std::stoll(f.at(i)); };
    cases.emplace_back(
        line, Case{f.at(0) == "fp16" ? DType::kFloat16 : DType::kBFloat16, number(1), number(2), number(3), number(4),
                   number(5), number(6), f.at(7) == "1", f.at(8), f.at(9), f.at(10), f.at(11)});
  }
  return cases;
}

// [batch, heads, length, dim].
Tensor Operand4(Tracer& t, const Case& c, int64_t heads, int64_t length) {
  const bool heads_inside = c.layout == "bthd";
  Tensor x = heads_inside ? Full(t, c.dtype, {c.batch, length, heads, c.dim}, 1)
                          : Full(t, c.dtype, {c.batch, heads, length, c.dim}, 1);
  RequireGrad(x);
  return heads_inside ? Transpose(x, 1, 2) : x;
}

Tensor MaskOf(Tracer& t, const Case& c) {
  if (c.mask == "float") return Full(t, c.dtype, {c.batch, c.heads, c.queries, c.keys}, 0);
  if (c.mask == "bool") return Full(t, DType::kBool, {c.batch, 1, c.queries, c.keys}, 1);
  if (c.mask == "broadcast") return Full(t, c.dtype, {1, 1, c.queries, c.keys}, 0);
  return {};
}

TEST(CudnnAttention, AllocatesAsOnTheDevice) {
  DeviceSpec h100;
  h100.compute_capability = 90;
  h100.multiprocessors = 132;
  const auto cases = ReadCases();
  ASSERT_EQ(cases.size(), 181U);
  for (const auto& [line, c] : cases) {
    Tracer t{h100};
    const Tensor q = Operand4(t, c, c.heads, c.queries);
    const Tensor k = Operand4(t, c, c.kv_heads, c.keys);
    const Tensor v = Operand4(t, c, c.kv_heads, c.keys);
    const Tensor mask = MaskOf(t, c);
    const Tensor gradient = Full(t, c.dtype, {c.batch, c.heads, c.queries, c.dim}, 1);
    const Tensor result = ScaledDotProductAttention(
        q, k, v, mask, {.causal = c.causal, .dropout = 0, .grouped = c.heads != c.kv_heads, .scale = std::nullopt});
    Backward(result, gradient);
    const Graph graph = t.TakeGraph();
    const Lowered lowered = Lower(graph, h100);
    std::string forward, backward;
    for (const Event& e : lowered.tape.events) {
      if (e.kind != EventKind::kAlloc) continue;
      const OpKind kind = graph.ops[lowered.origins[e.allocation].op].kind;
      std::string* sizes = nullptr;
      // A mask of booleans is made one of numbers, from two numbers.
      const bool makes_mask =
          c.mask == "bool" && (kind == OpKind::kWhere || (kind == OpKind::kFull && e.bytes == Bytes(2)));
      if (kind == OpKind::kCudnnForward || makes_mask) sizes = &forward;
      if (kind == OpKind::kCudnnBackward) sizes = &backward;
      if (sizes != nullptr) *sizes += (sizes->empty() ? "" : " ") + std::to_string(e.bytes.count());
    }
    EXPECT_EQ(forward, c.forward) << line;
    EXPECT_EQ(backward, c.backward) << line;
  }
}

}  // namespace
}  // namespace tidemark
