#include "passes/min_cut.h"

// The edge iterators of Boost.Graph hold an optional that g++ 12 can't see through.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/boykov_kolmogorov_max_flow.hpp>

namespace tidemark {
namespace {

constexpr Bytes kBlockStep{512};  // of the allocator: what a storage costs is rounded

using Traits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
using Network = boost::adjacency_list<
    boost::vecS, boost::vecS, boost::directedS,
    boost::property<
        boost::vertex_index_t, long,
        boost::property<boost::vertex_color_t, boost::default_color_type,
                        boost::property<boost::vertex_distance_t, long,
                                        boost::property<boost::vertex_predecessor_t, Traits::edge_descriptor>>>>,
    boost::property<boost::edge_capacity_t, int64_t,
                    boost::property<boost::edge_residual_capacity_t, int64_t,
                                    boost::property<boost::edge_reverse_t, Traits::edge_descriptor>>>>;

class Cutter {
 public:
  Cutter(const RecomputeAnalysis& analysis, const MicroStep& micro) : analysis_(analysis), micro_(micro), network_(2) {
    node_of_op_.resize(analysis.graph.ops.size());
    node_of_storage_.resize(analysis.graph.storages.size());
  }

  void Build(const RepeatPrice& price) {
    for (const StorageId storage : analysis_.ForwardStorages(micro_)) {
      const bool saved = IsSaved(storage);
      if (saved && !analysis_.Droppable(storage, micro_)) continue;  // there anyway
      storages_.push_back(storage);
      node_of_storage_[storage] = AddNode();
    }
    for (const StorageId storage : storages_) AddStorage(storage, price);
  }

  // Which nodes reach the sink without a saturated edge: backward's side.
  void Solve() {
    boost::boykov_kolmogorov_max_flow(network_, kSource, kSink);
    backward_side_.assign(boost::num_vertices(network_), false);
    backward_side_[kSink] = true;
    std::vector<size_t> stack = {kSink};
    const auto residual = boost::get(boost::edge_residual_capacity, network_);
    const auto reverse = boost::get(boost::edge_reverse, network_);
    while (!stack.empty()) {
      const size_t node = stack.back();
      stack.pop_back();
      const auto [begin, end] = boost::out_edges(node, network_);
      for (auto edge = begin; edge != end; ++edge) {
        const size_t from = boost::target(*edge, network_);
        if (backward_side_[from] || residual[reverse[*edge]] == 0) continue;
        backward_side_[from] = true;
        stack.push_back(from);
      }
    }
  }

  void Enter(RecomputePlan& plan) const {
    for (const StorageId storage : storages_) {
      const bool available = backward_side_[node_of_storage_[storage]];
      const bool repeated = Repeated(storage);
      if (IsSaved(storage)) {
        plan[storage] = available && !repeated ? Keep::kAsItIs : Keep::kDrop;
      } else {
        plan[storage] = available && !repeated ? Keep::kExtend : Keep::kAsItIs;
      }
    }
  }

 private:
  static constexpr size_t kSource = 0;
  static constexpr size_t kSink = 1;

  size_t AddNode() { return boost::add_vertex(network_); }

  void AddEdge(size_t from, size_t to, int64_t capacity) {
    const auto forth = boost::add_edge(from, to, network_).first;
    const auto back = boost::add_edge(to, from, network_).first;
    boost::put(boost::edge_capacity, network_, forth, capacity);
    boost::put(boost::edge_capacity, network_, back, 0);
    boost::put(boost::edge_reverse, network_, forth, back);
    boost::put(boost::edge_reverse, network_, back, forth);
  }

  bool IsSaved(StorageId storage) const { return analysis_.lives.dies[storage] >= micro_.backward.begin; }

  bool Repeated(StorageId storage) const {
    return std::ranges::any_of(analysis_.uses.Of(storage), [&](const Use& use) {
      const size_t node = use.writes ? node_of_op_[use.op] : 0;
      return node != 0 && backward_side_[node];
    });
  }

  // Its writers, what they read, and who needs it.
  void AddStorage(StorageId storage, const RepeatPrice& price) {
    const size_t node = node_of_storage_[storage];
    const bool repeatable = analysis_.Repeatable(storage, micro_);
    const Bytes bytes = RoundUp(analysis_.graph.storages[storage].bytes, kBlockStep);
    size_t producer = 0;
    for (const Use& use : analysis_.uses.Of(storage)) {
      if (!use.writes || !analysis_.Within(use.op, micro_.forward)) continue;
      const size_t writer = NodeOf(use.op, price, repeatable);
      if (producer == 0) {
        producer = writer;
        AddEdge(producer, node, bytes.count());
      } else {  // changes it in place: all of its writers run again, or none
        AddEdge(producer, writer, kNotAgain);
        AddEdge(writer, producer, kNotAgain);
      }
    }
    if (analysis_.ReadIn(storage, micro_.backward)) AddEdge(node, kSink, kNotAgain);
  }

  size_t NodeOf(OpId op, const RepeatPrice& price, bool repeatable) {
    size_t& node = node_of_op_[op];
    if (node == 0) {
      node = AddNode();
      AddEdge(kSource, node, price(op));
      for (const TensorId input : analysis_.graph.Inputs(analysis_.graph.ops[op])) {
        const size_t from = node_of_storage_[analysis_.graph.tensors[input].storage];
        if (from != 0) AddEdge(from, node, kNotAgain);
      }
    }
    if (!repeatable) AddEdge(kSource, node, kNotAgain);
    return node;
  }

  const RecomputeAnalysis& analysis_;
  const MicroStep& micro_;
  Network network_;
  std::vector<StorageId> storages_;
  Column<OpId, size_t> node_of_op_;            // 0: none
  Column<StorageId, size_t> node_of_storage_;  // 0: none
  std::vector<bool> backward_side_;
};

}  // namespace

void CutMicroStep(const RecomputeAnalysis& analysis, const MicroStep& micro, const RepeatPrice& price,
                  RecomputePlan& plan) {
  Cutter cutter(analysis, micro);
  cutter.Build(price);
  cutter.Solve();
  cutter.Enter(plan);
}

}  // namespace tidemark
