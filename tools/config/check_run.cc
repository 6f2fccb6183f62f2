#include "tools/config/check_run.h"

#include <fmt/format.h>

#include <algorithm>

namespace tidemark {
namespace {

constexpr Int128 kMaxBytes = Int128{1} << 60;  // PyTorch's own limit for one request: an exabyte
constexpr Int128 kMaxLayerRuns = 2'000'000;    // layers x batches: about 10^8 events, minutes

// "file:7" of the value that `path` ("training.sequence") names, or of the nearest map around it.
std::string PlaceOf(const DocumentNode& root, std::string_view path) {
  const DocumentNode* node = &root;
  while (!path.empty()) {
    const size_t dot = std::min(path.find('.'), path.size());
    const DocumentNode* child = FindField(*node, path.substr(0, dot));
    if (child == nullptr) break;
    node = child;
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return node->place;
}

class Checker {
 public:
  Checker(const RunConfig& run, const DocumentNode& root)
      : model_(run.model), training_(run.training), root_(root), longest_(std::ranges::max(run.training.sequence)) {}

  Status Run() const {
    RETURN_IF_ERROR(CheckShape());
    RETURN_IF_ERROR(CheckSequence());
    RETURN_IF_ERROR(CheckSizes());
    return CheckWork();
  }

 private:
  template <typename... T>
  Status Fail(std::string_view path, fmt::format_string<T...> format, T&&... values) const {
    return InvalidInput(PlaceOf(root_, path) + ": " + fmt::format(format, std::forward<T>(values)...));
  }

  Status CheckShape() const {
    const ModelConfig& m = model_;
    if (m.implementation == Implementation::kNanogpt) {
      if (m.family != Family::kGpt2) {
        return Fail("model.implementation", "model.implementation nanogpt has family gpt2 only; use transformers");
      }
      if (Int128{m.heads} * m.head_dim != m.hidden) {
        return Fail("model.head_dim", "nanogpt's heads x head_dim is its hidden size: {} x {} is not {}", m.heads,
                    m.head_dim, m.hidden);
      }
      if (m.kv_heads != m.heads) return Fail("model.kv_heads", "nanogpt has as many kv_heads as heads ({})", m.heads);
      if (!m.config.empty()) return Fail("model.config", "model.config belongs to transformers' implementation");
    }
    if (m.heads % m.kv_heads != 0) {
      return Fail("model.kv_heads", "model.heads {} is not a multiple of model.kv_heads {}", m.heads, m.kv_heads);
    }
    return {};
  }

  // Families with a table of learned positions can't go past it.
  Status CheckSequence() const {
    const bool table =
        model_.family == Family::kGpt2 || model_.family == Family::kOpt || model_.family == Family::kBert;
    if (table && longest_ > model_.context) {
      return Fail("training.sequence", "a sequence of {} is longer than model.context {}", longest_, model_.context);
    }
    return {};
  }

  // The largest tensors that a step can form; all others are smaller than one of these by a small factor.
  Status CheckSizes() const {
    const ModelConfig& m = model_;
    const Int128 tokens = Int128{training_.micro_batch} * longest_;
    const Int128 attention = Int128{m.heads} * m.head_dim;
    const std::pair<const char*, Int128> sizes[] = {
        {"model.layers", Limit(ParameterBound(m))},
        {"training.micro_batch", Limit(Limit(tokens) * m.vocab)},
        {"training.micro_batch", Limit(Limit(tokens) * std::max({m.hidden, m.ffn, m.context}))},
        {"training.micro_batch", Limit(Limit(tokens) * attention * 3)},
        {"training.sequence", Limit(Limit(tokens) * m.heads) * longest_},
    };
    for (const auto& [path, elements] : sizes) {
      if (elements * 8 >= kMaxBytes) {
        return Fail(path, "with {} a tensor or the model takes more than 1 EiB: no sizes beyond that are understood",
                    path);
      }
    }
    return {};
  }

  Status CheckWork() const {
    const Int128 evaluations = training_.evaluation ? (training_.steps - 1) / training_.evaluation->every + 1 : 0;
    const Int128 evaluated = training_.evaluation ? Limit(evaluations * training_.evaluation->batches) : 0;
    const Int128 batches = Limit(Int128{training_.steps} * training_.gradient_accumulation) + evaluated;
    if (Limit(batches) * model_.layers > kMaxLayerRuns) {
      return Fail("training.steps",
                  "layers x batches of the whole run is more than {}: take fewer training.steps (memory repeats after "
                  "the second step), less gradient_accumulation or evaluation",
                  static_cast<int64_t>(kMaxLayerRuns));
    }
    return {};
  }

  // Keeps further products within 128 bits; whatever reaches this is refused anyway.
  static Int128 Limit(Int128 value) { return std::min(value, kMaxBytes); }

  const ModelConfig& model_;
  const TrainingConfig& training_;
  const DocumentNode& root_;
  int64_t longest_;
};

}  // namespace

Int128 ParameterBound(const ModelConfig& m) {
  constexpr Int128 kCap = Int128{1} << 100;
  const Int128 attention = Int128{m.hidden} * std::min(Int128{m.heads} * m.head_dim, Int128{1} << 50) * 4;
  const Int128 feed_forward = Int128{m.hidden} * m.ffn * 3;
  const Int128 layer = std::min(attention + feed_forward + Int128{m.hidden} * 16, Int128{1} << 80);
  return std::min(layer * std::min(Int128{m.layers}, Int128{1} << 40) * 2, kCap) + Int128{m.vocab} * m.hidden * 2 +
         Int128{m.context} * m.hidden;
}

Status CheckRun(const RunConfig& run, const DocumentNode& root) { return Checker(run, root).Run(); }

}  // namespace tidemark
