#include "passes/compile/min_cut.h"

// Boost's edge iterators hold an optional range that g++ 12 believes to be read uninitialised.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/boykov_kolmogorov_max_flow.hpp>

#include "graph/base/check.h"

namespace tidemark::compile {
namespace {

using Traits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
struct VertexData {
  boost::default_color_type color = boost::white_color;
  long distance = 0;
  Traits::edge_descriptor predecessor;
};
struct EdgeData {
  int64_t capacity = 0;
  int64_t residual = 0;
  Traits::edge_descriptor reverse;
};
using Network = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS, VertexData, EdgeData>;

}  // namespace

FlowNetwork::Cut FlowNetwork::MinimumCut() const {
  Network network(static_cast<size_t>(vertices_));
  for (const Edge& e : edges_) {
    const auto from = static_cast<size_t>(e.from);
    const auto to = static_cast<size_t>(e.to);
    const auto forward = boost::add_edge(from, to, {e.capacity, 0, {}}, network).first;
    const auto backward = boost::add_edge(to, from, {0, 0, forward}, network).first;
    network[forward].reverse = backward;
  }
  Cut cut;
  cut.value = boost::boykov_kolmogorov_max_flow(
      network, boost::get(&EdgeData::capacity, network), boost::get(&EdgeData::residual, network),
      boost::get(&EdgeData::reverse, network), boost::get(&VertexData::predecessor, network),
      boost::get(&VertexData::color, network), boost::get(&VertexData::distance, network),
      boost::get(boost::vertex_index, network), size_t{kSource}, size_t{kSink});
  CHECK(cut.value < kInfiniteCapacity);
  cut.near_sink.assign(static_cast<size_t>(vertices_), false);
  std::vector<size_t> stack = {kSink};
  cut.near_sink[kSink] = true;
  while (!stack.empty()) {
    const size_t v = stack.back();
    stack.pop_back();
    // An edge v -> u has its reverse u -> v.
    for (auto [edge, end] = boost::out_edges(v, network); edge != end; ++edge) {
      const size_t u = boost::target(*edge, network);
      if (cut.near_sink[u] || network[network[*edge].reverse].residual == 0) continue;
      cut.near_sink[u] = true;
      stack.push_back(u);
    }
  }
  return cut;
}

}  // namespace tidemark::compile
