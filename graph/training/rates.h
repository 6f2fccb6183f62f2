// What the training loops construct their optimizers with. The run file can't change these, and no size depends on
// them.
#pragma once

namespace tidemark {

constexpr double kLearningRate = 1e-4;
constexpr double kBeta1 = 0.9;  // Adam's averages
constexpr double kBeta2 = 0.999;
constexpr double kAdamEpsilon = 1e-8;
constexpr double kRmspropAlpha = 0.99;
constexpr double kRmspropEpsilon = 1e-8;
constexpr double kAdagradEpsilon = 1e-10;

// The scaler's.
constexpr double kInitialScale = 65536;
constexpr double kScaleGrowth = 2;
constexpr double kScaleBackoff = 0.5;
constexpr int kScaleGrowthInterval = 2000;

}  // namespace tidemark
