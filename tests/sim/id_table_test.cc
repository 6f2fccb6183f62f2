#include "sim/id_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <set>

#include "tests/support/tapes.h"

namespace tidemark {
namespace {

constexpr uint64_t kHighest = ~uint64_t{0};

// Ids that are dense, sparse, and at the ends of the range.
uint64_t RandomId(Random& random) {
  if (random.Chance(0.1)) return kHighest - random.Below(5);
  return random.Chance(0.7) ? random.Below(300) : random.Next();
}

TEST(IdTable, AgreesWithAMap) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    IdTable table;
    std::map<uint64_t, uint32_t> map;
    for (uint32_t k = 0; k < 3000; ++k) {
      const uint64_t id = RandomId(random);
      EXPECT_EQ(table.Insert(id, k), map.emplace(id, k).second);
      EXPECT_EQ(table.Find(id), map.at(id));
      const uint64_t other = RandomId(random);
      EXPECT_EQ(table.Find(other), map.contains(other) ? map.at(other) : IdTable::kNone);
      if (map.contains(other) && random.Chance(0.5)) {
        table.Erase(other);
        map.erase(other);
        EXPECT_EQ(table.Find(other), IdTable::kNone);
      }
    }
  }
}

TEST(IdSet, AgreesWithASet) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    IdSet ids;
    std::set<uint64_t> set;
    uint64_t rising = 1000;
    for (int k = 0; k < 3000; ++k) {
      const uint64_t id = random.Chance(0.5) ? rising++ : RandomId(random) + random.Below(1500);
      EXPECT_EQ(ids.Insert(id), set.insert(id).second);
    }
  }
}

}  // namespace
}  // namespace tidemark
