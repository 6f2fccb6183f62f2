// Modules as torch.nn has them: a tree of named modules with parameters and buffers. Each traces its forward on call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/functional.h"
#include "graph/tracer.h"

namespace tidemark {

// A parameter or buffer. Tied ones are shared.
struct Parameter {
  Dims sizes;
  DType dtype = DType::kFloat32;
  bool is_buffer = false;
  HostSource initial;  // its values
  std::string name;    // under which it was first registered: "h.0.ln_1.weight"
  Tensor tensor;       // once on the device
};
using ParameterPtr = std::shared_ptr<Parameter>;

class Module {
 public:
  // The root of a tree.
  Module(Tracer& tracer, DType dtype) : tracer_(tracer), dtype_(dtype), scope_(tracer.AddScope("model")) {}
  // A child: registered with its parent, in this order. REQUIRES: the parent outlives it.
  Module(Module& parent, const std::string& name);
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  Tracer& tracer() const { return tracer_; }
  ScopeId scope() const { return scope_; }
  const std::string& path() const { return path_; }
  DType dtype() const { return dtype_; }  // of its weights

  // model.to(device): children first, then the module's own parameters, then its buffers; a shared one where it is
  // first met.
  void MoveToDevice();
  // Buffers of floating-point numbers take the format of the weights. Before MoveToDevice().
  void ConvertBuffers();
  // model.parameters(): a module's own before its children's, each once.
  std::vector<ParameterPtr> Parameters() const;
  // model.buffers(), in the same order.
  std::vector<ParameterPtr> Buffers() const;

 protected:
  ParameterPtr AddParameter(const std::string& name, const Dims& sizes);
  ParameterPtr AddBuffer(const std::string& name, DType dtype, const Dims& sizes, const HostSource& initial = {});
  // A parameter of another module, registered here too.
  void Share(const ParameterPtr& parameter) { parameters_.push_back(parameter); }

 private:
  void Collect(std::vector<ParameterPtr> Module::*which, std::vector<ParameterPtr>& all) const;

  Tracer& tracer_;
  DType dtype_;
  std::string path_;  // "h.0.attn"; the root's is empty
  ScopeId scope_;
  std::vector<Module*> children_;
  std::vector<ParameterPtr> parameters_;
  std::vector<ParameterPtr> buffers_;
};

// A module of one tensor. module(x) holds x until the call has returned, as Python's frames do.
class Layer : public Module {
 public:
  using Module::Module;
  Tensor operator()(Operand x) const {
    const InScope in_scope(tracer(), scope());
    Tensor y = Forward(*x);
    x.Drop();
    return y;
  }

 protected:
  virtual Tensor Forward(const Tensor& x) const = 0;
};

class LinearLayer : public Layer {
 public:
  // `shared`: a weight of another module (tied embeddings).
  LinearLayer(Module& parent, const std::string& name, int64_t in, int64_t out, bool bias,
              ParameterPtr shared = nullptr);
  const ParameterPtr& weight() const { return weight_; }

 protected:
  Tensor Forward(const Tensor& x) const override;

 private:
  ParameterPtr weight_;  // [out, in]
  ParameterPtr bias_;    // [out], or null
};

class LayerNormLayer : public Layer {
 public:
  LayerNormLayer(Module& parent, const std::string& name, int64_t width, bool bias, double epsilon = 1e-5);

 protected:
  Tensor Forward(const Tensor& x) const override;

 private:
  double epsilon_;
  ParameterPtr weight_;
  ParameterPtr bias_;
};

class EmbeddingLayer : public Layer {
 public:
  // `shared`: a weight of another module.
  EmbeddingLayer(Module& parent, const std::string& name, int64_t rows, int64_t width, ParameterPtr shared = nullptr);
  const ParameterPtr& weight() const { return weight_; }

 protected:
  Tensor Forward(const Tensor& indices) const override;

 private:
  ParameterPtr weight_;  // [rows, width]
};

class DropoutLayer : public Layer {
 public:
  DropoutLayer(Module& parent, const std::string& name, double rate) : Layer(parent, name), rate_(rate) {}

 protected:
  Tensor Forward(const Tensor& x) const override { return Dropout(x, rate_, tracer().training); }

 private:
  double rate_;
};

}  // namespace tidemark
