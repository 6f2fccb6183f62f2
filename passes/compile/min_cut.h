// Minimum cuts of networks. Boost.Graph stays inside min_cut.cc.
#pragma once

#include <cstdint>
#include <vector>

namespace tidemark::compile {

constexpr int64_t kInfiniteCapacity = INT64_MAX / 4;

class FlowNetwork {
 public:
  static constexpr int kSource = 0;
  static constexpr int kSink = 1;
  int AddVertex() { return vertices_++; }
  void AddEdge(int from, int to, int64_t capacity) { edges_.push_back({from, to, capacity}); }

  struct Cut {
    int64_t value = 0;
    std::vector<bool> near_sink;  // by vertex
  };
  // Of all minimum cuts the one nearest the sink: on its side is only what can still reach it after a maximum flow.
  // REQUIRES: some finite cut exists.
  Cut MinimumCut() const;

 private:
  struct Edge {
    int from;
    int to;
    int64_t capacity;
  };
  int vertices_ = 2;
  std::vector<Edge> edges_;
};

}  // namespace tidemark::compile
