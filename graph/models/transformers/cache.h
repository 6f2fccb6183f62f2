// transformers' DynamicCache while training with use_cache: every forward starts with an empty one, and the output
// carries it until the next forward's takes its place.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "graph/tracer.h"

namespace tidemark::transformers {

class KeyValueCache {
 public:
  // `windows`: by layer, the sliding window where the layer has one.
  explicit KeyValueCache(std::vector<std::optional<int64_t>> windows) : windows_(std::move(windows)) {
    layers_.resize(windows_.size());
  }

  // Appends a layer's keys and values to what it has; `key` and `value` become what the cache then holds.
  void Update(size_t layer, Tensor& key, Tensor& value);

  // What the cache holds, for ModelOutput::cache: the last layer's keys are dropped first, then its values.
  std::vector<Tensor> Release();

 private:
  struct Layer {
    Tensor window;  // the window's size, on the device
    Tensor values;
    Tensor keys;
  };
  std::vector<std::optional<int64_t>> windows_;
  std::vector<Layer> layers_;
};

}  // namespace tidemark::transformers
