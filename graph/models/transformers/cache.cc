#include "graph/models/transformers/cache.h"

#include "graph/functional.h"

namespace tidemark::transformers {

void KeyValueCache::Update(size_t index, Tensor& key, Tensor& value) {
  Layer& layer = layers_[index];
  Tracer& tracer = key.tracer();
  if (windows_[index].has_value())
    layer.window = FromHost(tracer, DType::kInt64, {}, Role::kScalar, {.data = HostData::kConstant});
  Tensor keys = Cat({key}, -2);  // the empty tensor before it allocates nothing
  Tensor values = Cat({value}, -2);
  layer.keys = Tensor(keys, HolderKind::kCaller);
  layer.values = Tensor(values, HolderKind::kCaller);
  key = std::move(keys);
  value = std::move(values);
}

std::vector<Tensor> KeyValueCache::Release() {
  std::vector<Tensor> all;
  for (Layer& layer : layers_) {
    for (Tensor* t : {&layer.window, &layer.values, &layer.keys}) {
      if (t->defined()) all.push_back(std::move(*t));
    }
  }
  layers_.clear();
  return all;
}

}  // namespace tidemark::transformers
