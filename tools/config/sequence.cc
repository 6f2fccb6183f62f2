#include "tools/config/sequence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tools/config/map_reader.h"

namespace tidemark {
namespace {

constexpr int64_t kMaxLength = int64_t{1} << 40;
constexpr int64_t kMaxCount = 100'000;

enum class Distribution : uint8_t { kUniform, kNormal, kLognormal };

// SplitMix64 (Steele, Lea, Flood 2014): the standard library's distributions differ between implementations.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  // In (0, 1).
  double Uniform() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    return (static_cast<double>(z >> 11) + 0.5) * 0x1p-53;
  }
  // Mean 0, deviation 1 (Box and Muller 1958).
  double Normal() {
    const double radius = std::sqrt(-2 * std::log(Uniform()));
    return radius * std::cos(2 * std::numbers::pi * Uniform());
  }

 private:
  uint64_t state_;
};

// How many lengths a run takes from a list: one for each gradient_accumulation batches, evaluation's and nanoGPT's one
// batch ahead included. Capped, since the list starts again at its end.
int64_t LengthsTaken(const TrainingConfig& training) {
  const double evaluations =
      training.evaluation
          ? std::ceil(static_cast<double>(training.steps) / static_cast<double>(training.evaluation->every))
          : 0;
  const double evaluation_batches =
      training.evaluation ? evaluations * static_cast<double>(training.evaluation->batches) : 0;
  const double batches = 1 + static_cast<double>(training.steps) * static_cast<double>(training.gradient_accumulation) +
                         evaluation_batches;
  const double lengths = std::ceil(batches / static_cast<double>(training.gradient_accumulation));
  return static_cast<int64_t>(std::min(lengths, static_cast<double>(kMaxCount)));
}

Result<std::vector<int64_t>> Draw(const DocumentNode& node, const TrainingConfig& training) {
  static constexpr std::pair<std::string_view, Distribution> kWords[] = {
      {"uniform", Distribution::kUniform}, {"normal", Distribution::kNormal}, {"lognormal", Distribution::kLognormal}};
  Distribution distribution = Distribution::kUniform;
  int64_t min = 1;
  int64_t max = 0;
  int64_t seed = 0;
  int64_t count = LengthsTaken(training);
  double mean = 0;
  double deviation = 0;
  MapReader reader(node, "training.sequence");
  reader.Require("distribution");
  reader.Require("max");
  reader.Word("distribution", &distribution, Words<Distribution>(kWords));
  reader.Integer("min", &min, {.min = 1, .max = kMaxLength});
  reader.Integer("max", &max, {.min = 1, .max = kMaxLength});
  reader.Integer("seed", &seed, {.min = 0});
  reader.Integer("count", &count, {.min = 1, .max = kMaxCount});
  if (distribution != Distribution::kUniform) {
    reader.Require("mean");
    reader.Require("deviation");
    reader.Number("mean", &mean, {.min = 0});
    reader.Number("deviation", &deviation, {.min = 0});
  }
  RETURN_IF_ERROR(reader.Finish());
  if (min > max) {
    return InvalidInput(fmt::format("{}: training.sequence.min {} is above max {}", reader.place(), min, max));
  }
  Random random(static_cast<uint64_t>(seed));
  std::vector<int64_t> lengths(static_cast<size_t>(count));
  for (int64_t& length : lengths) {
    double value = 0;
    if (distribution == Distribution::kUniform) {
      value = static_cast<double>(min) + std::floor(random.Uniform() * static_cast<double>(max - min + 1));
    } else {
      value = mean + deviation * random.Normal();
      if (distribution == Distribution::kLognormal) value = std::exp(value);
    }
    length = static_cast<int64_t>(std::clamp(std::round(value), static_cast<double>(min), static_cast<double>(max)));
  }
  return lengths;
}

}  // namespace

Result<std::vector<int64_t>> ReadSequence(const DocumentNode& node, const TrainingConfig& training) {
  constexpr IntegerRange kLength = {.min = 1, .max = kMaxLength};
  if (node.kind == DocumentNode::Kind::kMap) return Draw(node, training);
  if (node.kind != DocumentNode::Kind::kList) {
    ASSIGN_OR_RETURN(const int64_t length, ReadInteger(node, "training.sequence", kLength));
    return std::vector{length};
  }
  if (node.items.empty()) return InvalidInput(fmt::format("{}: training.sequence is an empty list", node.place));
  std::vector<int64_t> lengths;
  for (const DocumentNode& item : node.items) {
    ASSIGN_OR_RETURN(const int64_t length, ReadInteger(item, "a length in training.sequence", kLength));
    lengths.push_back(length);
  }
  return lengths;
}

}  // namespace tidemark
