#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "sim/check_placement.h"
#include "sim/formats/minimalloc.h"
#include "sim/planners/plan.h"
#include "sim/planners/tape_buffers.h"
#include "sim/planners/valley_search.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

using namespace literals;

Status Check(const std::vector<PlanBuffer>& buffers, const StaticPlan& plan, int64_t capacity) {
  std::vector<Placed> placed;
  for (size_t k = 0; k < buffers.size(); ++k) {
    placed.push_back({AllocationId(k), 0, Bytes(plan.offsets[k]), Bytes(buffers[k].size), buffers[k].alive});
  }
  return CheckPlacement(placed, {.capacity = Bytes(capacity)});
}

std::vector<PlanBuffer> RandomBuffers(uint64_t seed, size_t count, uint64_t steps, uint64_t largest) {
  Random random(seed);
  std::vector<PlanBuffer> buffers;
  for (size_t k = 0; k < count; ++k) {
    const int64_t begin = static_cast<int64_t>(random.Below(steps));
    const int64_t length = 1 + static_cast<int64_t>(random.Below(steps / 2));
    buffers.push_back({{begin, begin + length}, 1 + static_cast<int64_t>(random.Below(largest))});
  }
  return buffers;
}

// The lowest height of all plans in which every buffer rests on another or on 0: first fit in every order.
int64_t BestOfAllOrders(const std::vector<PlanBuffer>& buffers) {
  std::vector<uint32_t> order(buffers.size());
  for (uint32_t k = 0; k < order.size(); ++k) order[k] = k;
  int64_t best = INT64_MAX;
  do {
    StaticPlan plan;
    plan.offsets.resize(buffers.size());
    FirstFit(buffers, order, {}, plan);
    best = std::min(best, plan.height);
  } while (std::ranges::next_permutation(order).found);
  return best;
}

TEST(CompressLifetimes, KeepsWhoMeetsWhom) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const std::vector<PlanBuffer> buffers = RandomBuffers(seed, 30, 40, 5);
    const std::vector<PlanBuffer> compressed = CompressLifetimes(buffers);
    for (size_t a = 0; a < buffers.size(); ++a) {
      EXPECT_FALSE(compressed[a].alive.empty());
      for (size_t b = 0; b < a; ++b) {
        EXPECT_EQ(compressed[a].alive.Overlaps(compressed[b].alive), buffers[a].alive.Overlaps(buffers[b].alive))
            << "seed " << seed;
      }
    }
    EXPECT_EQ(LiveLowerBound(compressed), LiveLowerBound(buffers));
  }
}

// Whether there is a plan of a height is known from all orders: the search must say the same.
TEST(SearchPlan, FindsAPlanExactlyWhereThereIsOne) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const std::vector<PlanBuffer> buffers = RandomBuffers(seed, 7, 8, 6);
    const int64_t best = BestOfAllOrders(buffers);
    const std::vector<PlanBuffer> compressed = CompressLifetimes(buffers);
    const auto found = SearchPlan(compressed, {.capacity = best, .nodes = 100000});
    ASSERT_TRUE(found.has_value());
    EXPECT_LE(found->height, best);
    EXPECT_TRUE(Check(buffers, *found, best).ok());
    EXPECT_FALSE(SearchPlan(compressed, {.capacity = best - 1, .nodes = 100000}).has_value());
  }
}

// At most 4 are alive, but 4 isn't enough: a and c must lie at 0 and 3 for F and I, G wants b beside a, and H wants it
// beside c.
//
//   step   0 1 2 3 4
//   a (1)  -----
//   b (1)    -----        F (3): step 0    G (2): step 1    H (2): step 3    I (3): step 4
//   c (1)      -----
TEST(SearchPlan, KnowsWhenTheLowerBoundCannotBeReached) {
  const std::vector<PlanBuffer> buffers = {{{0, 3}, 1}, {{1, 4}, 1}, {{2, 5}, 1}, {{0, 1}, 3},
                                           {{1, 2}, 2}, {{3, 4}, 2}, {{4, 5}, 3}};
  EXPECT_EQ(LiveLowerBound(buffers), 4);
  EXPECT_EQ(BestOfAllOrders(buffers), 5);
  EXPECT_FALSE(SearchPlan(buffers, {.capacity = 4, .nodes = 100000}).has_value());
  EXPECT_TRUE(SearchPlan(buffers, {.capacity = 5, .nodes = 100000}).has_value());
  EXPECT_EQ(PlanStrongly(buffers, {}).height, 5);
}

TEST(PlanStrongly, IsValidAndNoWorseThanFirstFit) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const std::vector<PlanBuffer> buffers = RandomBuffers(seed, 20 + 10 * seed, 100, 1000);
    const StaticPlan plan = PlanStrongly(buffers, {.nodes = 20000});
    EXPECT_TRUE(Check(buffers, plan, plan.height).ok());
    EXPECT_GE(plan.height, LiveLowerBound(buffers));
    for (const PlanOrder order : {PlanOrder::kSize, PlanOrder::kLifetime}) {
      EXPECT_LE(plan.height, PlanInOrder(buffers, order).height);
    }
  }
}

// Windows of time don't change what first fit finds: nothing lower is free.
TEST(FirstFit, FindsTheLowestPlaceOfEach) {
  for (const size_t count : {5u, 300u, 9000u}) {
    SCOPED_TRACE(testing::Message() << count << " buffers");
    const std::vector<PlanBuffer> buffers = RandomBuffers(count, count, count / 8 + 3, 1000);
    std::vector<uint32_t> order(buffers.size());
    for (uint32_t k = 0; k < order.size(); ++k) order[k] = k;
    StaticPlan plan;
    plan.offsets.resize(buffers.size());
    FirstFit(buffers, order, {}, plan);
    for (size_t k = 0; k < buffers.size(); k += 1 + count / 100) {
      const auto is_free = [&](int64_t at) {
        for (size_t other = 0; other < k; ++other) {
          if (buffers[other].alive.Overlaps(buffers[k].alive) && at < plan.offsets[other] + buffers[other].size &&
              plan.offsets[other] < at + buffers[k].size) {
            return false;
          }
        }
        return true;
      };
      EXPECT_TRUE(is_free(plan.offsets[k])) << "buffer " << k;
      EXPECT_TRUE(plan.offsets[k] == 0 || !is_free(0)) << "buffer " << k;
      for (size_t other = 0; other < k; ++other) {
        const int64_t top = plan.offsets[other] + buffers[other].size;
        if (top < plan.offsets[k] && buffers[other].alive.Overlaps(buffers[k].alive)) {
          ASSERT_FALSE(is_free(top)) << "buffer " << k << " on " << other;
        }
      }
    }
  }
}

TEST(PlanQuickly, IsValidAndNoWorseThanFirstFit) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const std::vector<PlanBuffer> buffers = RandomBuffers(seed, 5 + 60 * seed, 300, 1000);
    const StaticPlan plan = PlanQuickly(buffers).plan;
    EXPECT_TRUE(Check(buffers, plan, plan.height).ok());
    EXPECT_LE(plan.height, PlanInOrder(buffers, PlanOrder::kSize).height);
    const StaticPlan in_time = PlanInTime(buffers);
    EXPECT_TRUE(Check(buffers, in_time, in_time.height).ok());
  }
  EXPECT_EQ(PlanQuickly({}).plan.height, 0);
}

TapeBuffers TrainingBuffers(size_t events, uint64_t seed) {
  Result<TapeBuffers> input = BuffersOf(TrainingTape({.events = events, .seed = seed}), EventTiming::kAtOnce, nullptr);
  EXPECT_TRUE(input.ok());
  return *std::move(input);
}

// More buffers than are planned with care.
TEST(PlanQuickly, MakesDoWithLessForVeryManyBuffers) {
  const TapeBuffers input = TrainingBuffers(240'000, 3);
  ASSERT_GT(input.buffers.size(), 100'000u);
  const StaticPlan plan = PlanQuickly(input.buffers).plan;
  EXPECT_LE(static_cast<double>(plan.height), 1.02 * static_cast<double>(LiveLowerBound(input.buffers)));
}

// Tapes as training makes them: within 1.002 of what is alive. tests/bench/plan_bench says how fast.
TEST(Plans, OfTrainingComeDownToWhatIsAlive) {
  for (const uint64_t seed : {1U, 2U, 3U}) {
    const TapeBuffers input = TrainingBuffers(42'000, seed);
    ASSERT_GT(input.buffers.size(), 20'000u);
    const double enough = 1.002 * static_cast<double>(LiveLowerBound(input.buffers));
    EXPECT_LE(static_cast<double>(PlanQuickly(input.buffers).plan.height), enough) << "seed " << seed;
    EXPECT_LE(static_cast<double>(PlanStrongly(input.buffers, {}).height), enough) << "seed " << seed;
  }
}

// From the step behind an allocation's event to that of its free; what another stream uses and what was there before
// live longer.
TEST(BuffersOf, LivesAreThoseOfTheTape) {
  const Tape tape = TapeOf("a 0 1\na 1 1024\ns 1 3\nf 0\nf 1\na 2 0\ny\n");
  const auto at_once = BuffersOf(tape, EventTiming::kAtOnce, nullptr);
  const auto lazy = BuffersOf(tape, EventTiming::kLazy, nullptr);
  ASSERT_TRUE(at_once.ok() && lazy.ok());
  EXPECT_EQ(at_once->buffers, (std::vector<PlanBuffer>{{{1, 4}, 1}, {{2, 5}, 2}}));
  EXPECT_EQ(lazy->buffers, (std::vector<PlanBuffer>{{{1, 4}, 1}, {{2, 7}, 2}}));
  EXPECT_EQ(at_once->allocations, (std::vector<AllocationId>{AllocationId(0), AllocationId(1)}));

  Tape middle = tape;
  middle.events.erase(middle.events.begin());  // allocation 0 was there before
  InitialState initial;
  initial.segments.push_back(
      {0, 2_MiB, 0, false, false, {{512_B, 1_B, AllocationId(0)}, {2_MiB - 512_B, 0_B, AllocationId()}}});
  const auto before = BuffersOf(middle, EventTiming::kAtOnce, &initial);
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(before->buffers, (std::vector<PlanBuffer>{{{0, 3}, 1}, {{1, 4}, 2}}));
  EXPECT_FALSE(BuffersOf(TapeOf("a 0 2000000000000000000\n"), EventTiming::kAtOnce, nullptr).ok());
}

TEST(PlanStrongly, NothingIsPlannedToNothing) { EXPECT_EQ(PlanStrongly({}, {}).height, 0); }

class MinimallocInstances : public testing::TestWithParam<std::string> {};

TEST_P(MinimallocInstances, FitTheirCapacity) {
  const auto path = std::filesystem::path(TIDEMARK_TEST_DATA) / "truth" / "minimalloc" / (GetParam() + ".1048576.csv");
  const Result<MinimallocInstance> instance = ReadMinimalloc(path.string());
  ASSERT_TRUE(instance.ok()) << instance.error().message;
  EXPECT_EQ(instance->capacity, 1048576);
  const StaticPlan plan = PlanStrongly(instance->buffers, {.capacity = instance->capacity});
  EXPECT_LE(plan.height, instance->capacity);
  const Status check = Check(instance->buffers, plan, instance->capacity);
  EXPECT_TRUE(check.ok()) << check.error().message;
}

INSTANTIATE_TEST_SUITE_P(All, MinimallocInstances,
                         testing::Values("A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K"),
                         [](const auto& parameter) { return parameter.param; });

TEST(ParseMinimalloc, NamesTheLineAndTheWord) {
  const auto error = [](std::string_view text) {
    const auto instance = ParseMinimalloc("x.csv", text);
    return instance.ok() ? "no error" : instance.error().message;
  };
  EXPECT_EQ(error(""), "x.csv:1: an empty file: wanted a header id,lower,upper,size");
  EXPECT_EQ(error("id,lower,size\n"), "x.csv:1: no column \"upper\": wanted a header id,lower,upper,size");
  EXPECT_EQ(error("id,lower,upper,size\na,1,2,x\n"),
            "x.csv:2: \"x\" is no size: wanted a whole number from 0 to 1125899906842624");
  EXPECT_EQ(error("id,lower,upper,size\na,2,2,1\n"), "x.csv:2: lower 2 isn't below upper 2");
  EXPECT_EQ(error("id,lower,upper,size\na,2\n"), "x.csv:2: column \"upper\" is missing");
}

TEST(ParseMinimalloc, ColumnsMayComeInAnyOrder) {
  const auto instance = ParseMinimalloc("x.12.csv", "size,id,upper,lower\n5,b1,3,1\n");
  ASSERT_TRUE(instance.ok());
  EXPECT_EQ(*instance, (MinimallocInstance{{"b1"}, {{{1, 3}, 5}}, 12}));
  EXPECT_TRUE(LooksLikeMinimalloc("id,lower,upper,size\n"));
  EXPECT_FALSE(LooksLikeMinimalloc("# tidemark tape 1\n"));
}

// At a step that is the end of one buffer and the beginning of another, the free comes first.
TEST(TapeOfMinimalloc, FreesBeforeItAllocates) {
  const auto instance = ParseMinimalloc("x.csv", "id,lower,upper,size\na,0,2,5\nb,2,4,7\n");
  ASSERT_TRUE(instance.ok());
  const Tape tape = TapeOfMinimalloc(*instance);
  ASSERT_EQ(tape.events.size(), 4u);
  EXPECT_EQ(tape.events[1].kind, EventKind::kFree);
  EXPECT_EQ(tape.events[2].bytes, Bytes(7));
}

}  // namespace
}  // namespace tidemark
