#include "tests/support/tapes.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "graph/base/check.h"
#include "sim/tape_io.h"

namespace tidemark {
namespace {

class Maker {
 public:
  explicit Maker(const TapeShape& shape) : random(shape.seed), shape_(shape) {}

  bool full() const { return tape_.events.size() >= shape_.events; }
  int64_t live_bytes() const { return live_bytes_; }
  size_t live_count() const { return live_.size(); }

  AllocationId Alloc(int64_t bytes) {
    const int32_t streams = shape_.streams;
    const int32_t stream =
        streams == 1 || random.Chance(0.5) ? 0 : static_cast<int32_t>(random.Below(static_cast<uint64_t>(streams)));
    Event event;
    event.stream = stream;
    event.bytes = Bytes(bytes);
    event.allocation = tape_.allocations.Add({.id = tape_.allocations.size(), .text = {}});
    tape_.events.push_back(event);
    place_.push_back(live_.size());
    live_.push_back(event.allocation);
    sizes_.push_back(bytes);
    live_bytes_ += bytes;
    if (random.Chance(shape_.empty) && !capturing()) Other(EventKind::kEmptyCache);
    if (random.Chance(shape_.synchronize) && !capturing()) Other(EventKind::kSynchronize);
    if (random.Chance(0.0005)) Other(EventKind::kResetPeak);
    if (random.Chance(shape_.pools)) PoolEvent();
    return event.allocation;
  }

  void Free(AllocationId id) {
    while (shape_.streams > 1 && random.Chance(shape_.record)) {
      Event use;
      use.kind = EventKind::kRecordStream;
      use.allocation = id;
      use.stream = static_cast<int32_t>(random.Below(static_cast<uint64_t>(shape_.streams)));
      tape_.events.push_back(use);
    }
    Event event;
    event.kind = EventKind::kFree;
    event.allocation = id;
    tape_.events.push_back(event);
    const size_t place = place_[id.index()];
    live_[place] = live_.back();
    place_[live_[place].index()] = place;
    live_.pop_back();
    live_bytes_ -= sizes_[id.index()];
  }

  void FreeRandom() { Free(live_[random.Below(live_.size())]); }

  void Other(EventKind kind, uint32_t pool = 0, int32_t stream = 0) {
    Event event;
    event.kind = kind;
    event.pool = pool;
    event.stream = stream;
    tape_.events.push_back(event);
  }

  // One legal event of a pool, if the dice name one.
  void PoolEvent() {
    const bool fresh = pools_.size() < 12 && random.Chance(0.3);
    if (fresh) pools_.push_back({});
    if (pools_.empty()) return;
    const size_t k = fresh ? pools_.size() - 1 : random.Below(pools_.size());
    Pool& pool = pools_[k];
    const uint32_t number = static_cast<uint32_t>(k);
    const bool alive = pool.users > 0;
    switch (random.Below(10)) {
      case 0:
      case 1:
      case 2:
        if (!alive || pool.entered) return;
        ++pool.users;
        pool.entered = true;
        return Other(EventKind::kPoolEnter, number);
      case 3:
      case 4:
      case 5:
        if (!pool.entered) return;
        if (pool.captured) {
          pool.captured = pool.entered = false;
          captured_.erase(std::ranges::find(captured_, pool.stream));
          return Other(EventKind::kCaptureEnd, number);
        }
        if (pool.users == 1 && !shape_.release_pools) return;
        --pool.users;
        pool.entered = false;
        return Other(EventKind::kPoolLeave, number);
      case 6:
        if (pool.users <= (pool.entered ? 2 : 1) - (shape_.release_pools && !pool.kept && !pool.entered ? 1 : 0))
          return;
        --pool.users;
        return Other(EventKind::kPoolRelease, number);
      case 7:
        if (captured_.empty()) Other(EventKind::kPoolEmpty, number);
        return;
      case 8:
        if (random.Chance(0.3)) Other(EventKind::kPoolNoSplit, number);
        if (random.Chance(0.1) && alive && !any_kept_ && !pool.captured) {
          any_kept_ = pool.kept = true;
          Other(EventKind::kPoolUseOnOom, number);
        }
        return;
      default: {
        if (!shape_.captures || !alive || pool.entered || pool.kept) return;
        const int32_t stream = static_cast<int32_t>(random.Below(static_cast<uint64_t>(shape_.streams)));
        if (stream == 0 || std::ranges::find(captured_, stream) != captured_.end()) return;
        ++pool.users;
        pool.entered = pool.captured = true;
        pool.stream = stream;
        captured_.push_back(stream);
        return Other(EventKind::kCaptureBegin, number, stream);
      }
    }
  }

  bool capturing() const { return !captured_.empty(); }
  int64_t SizeOf(AllocationId id) const { return sizes_[id.index()]; }

  Tape Finish() {
    tape_.events.resize(std::min(tape_.events.size(), shape_.events));
    size_t allocations = 0;
    for (const Event& event : tape_.events) allocations += event.kind == EventKind::kAlloc ? 1 : 0;
    tape_.allocations.resize(allocations);
    return std::move(tape_);
  }

  Random random;

 private:
  const TapeShape& shape_;
  Tape tape_;
  std::vector<AllocationId> live_;
  std::vector<size_t> place_;  // in live_, by allocation
  std::vector<int64_t> sizes_;
  int64_t live_bytes_ = 0;

  struct Pool {
    int users = 1;
    bool entered = false;
    bool captured = false;
    bool kept = false;  // must not lose its last user
    int32_t stream = 0;
  };
  std::vector<Pool> pools_;
  std::vector<int32_t> captured_;
  bool any_kept_ = false;
};

int64_t EdgeSize(Random& random, int64_t largest) {
  constexpr int64_t kMi = 1 << 20;
  constexpr std::array<int64_t, 16> kBases = {512,      1024,     4096,     kMi / 2,  kMi,      2 * kMi,
                                              4 * kMi,  5 * kMi,  10 * kMi, 12 * kMi, 19 * kMi, 20 * kMi,
                                              22 * kMi, 40 * kMi, 64 * kMi, 128 * kMi};
  constexpr std::array<int64_t, 10> kDeltas = {0, 0, 1, -1, 511, 512, 513, -512, kMi, -kMi};
  int64_t base = kBases[random.Below(kBases.size())];
  if (random.Chance(0.2))
    base = 2 * kMi * static_cast<int64_t>(1 + random.Below(static_cast<uint64_t>(largest / (2 * kMi)) + 1));
  const int64_t size = std::min(base, largest) + kDeltas[random.Below(kDeltas.size())];
  return random.Chance(0.005) ? 0 : std::max<int64_t>(size, 1);
}

int64_t LogUniformSize(Random& random, int64_t largest) {
  const int bits = 1 + static_cast<int>(random.Below(40));
  return std::min(largest, std::max<int64_t>(1, static_cast<int64_t>(random.Next() >> (64 - bits))));
}

// One forward and backward pass.
void TrainingStep(Maker& maker, int64_t tokens, int64_t width, size_t layers) {
  std::vector<AllocationId> saved;
  for (size_t layer = 0; layer < layers; ++layer) {
    for (const int64_t factor : {1, 3, 1, 1, 4, 4, 1}) {
      const AllocationId out = maker.Alloc(factor * tokens * width * 2);
      if (maker.random.Chance(0.4)) {
        const std::array<int64_t, 4> sizes = {factor * tokens * width * 2, 4 * tokens, 8519680, 4 * width};
        maker.Free(maker.Alloc(sizes[maker.random.Below(sizes.size())]));
      }
      if (maker.random.Chance(0.8)) {
        saved.push_back(out);
      } else {
        maker.Free(out);
      }
      if (maker.random.Chance(0.3)) saved.push_back(maker.Alloc(4 * tokens));
    }
  }
  for (; !saved.empty(); saved.pop_back()) {
    const AllocationId gradient = maker.Alloc(maker.SizeOf(saved.back()));
    if (maker.random.Chance(0.5)) maker.Free(maker.Alloc(maker.random.Chance(0.5) ? 8519680 : 4 * width));
    maker.Free(saved.back());
    maker.Free(gradient);
  }
}

}  // namespace

uint64_t Random::Next() {
  state_ += 0x9e3779b97f4a7c15ull;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

Tape TrainingTape(const TapeShape& shape) {
  Maker maker(shape);
  const size_t layers = 6 + maker.random.Below(8);
  const int64_t width = 128 * static_cast<int64_t>(1 + maker.random.Below(6));
  const int64_t tokens = std::max<int64_t>(64, shape.live.count() / (static_cast<int64_t>(layers) * width * 48));
  std::vector<int64_t> parameters;
  for (size_t layer = 0; layer < layers; ++layer) {
    for (const int64_t n : {3 * width * width, width * width, 4 * width * width, 4 * width * width, width, 3 * width}) {
      parameters.push_back(4 * n);
    }
  }
  for (const int64_t bytes : parameters) maker.Alloc(bytes);
  bool first = true;
  while (!maker.full()) {
    const int64_t now = shape.seed % 2 == 0
                            ? tokens
                            : std::max<int64_t>(16, tokens * static_cast<int64_t>(30 + maker.random.Below(90)) / 100);
    TrainingStep(maker, now, width, layers);
    std::vector<AllocationId> gradients;
    for (const int64_t bytes : parameters) gradients.push_back(maker.Alloc(bytes));
    for (const int64_t bytes : parameters) {
      if (first) maker.Alloc(bytes);
      if (first) maker.Alloc(bytes);
    }
    first = false;
    std::vector<AllocationId> temporaries;
    for (const int64_t bytes : parameters) temporaries.push_back(maker.Alloc(bytes));
    for (const AllocationId id : temporaries) maker.Free(id);
    for (const AllocationId id : gradients) maker.Free(id);
    if (shape.streams > 1) maker.Other(EventKind::kSynchronize);
  }
  return maker.Finish();
}

Tape RandomTape(const TapeShape& shape) {
  Maker maker(shape);
  while (!maker.full()) {
    if (maker.live_count() > 0 && (maker.live_bytes() > shape.live.count() || maker.random.Chance(0.48))) {
      maker.FreeRandom();
    } else {
      maker.Alloc(maker.random.Chance(0.5) ? EdgeSize(maker.random, shape.largest.count())
                                           : LogUniformSize(maker.random, shape.largest.count()));
    }
  }
  return maker.Finish();
}

Tape NestedTape(const TapeShape& shape) {
  Maker maker(shape);
  std::vector<AllocationId> stack;
  while (!maker.full()) {
    const bool burst = maker.random.Chance(0.3);
    const int64_t size = LogUniformSize(maker.random, shape.largest.count());
    for (uint64_t deep = 1 + maker.random.Below(40); deep > 0 && maker.live_bytes() < shape.live.count(); --deep) {
      stack.push_back(maker.Alloc(burst                      ? size
                                  : maker.random.Chance(0.3) ? EdgeSize(maker.random, shape.largest.count())
                                                             : LogUniformSize(maker.random, shape.largest.count())));
    }
    std::vector<AllocationId> survivors;
    for (uint64_t back = 1 + maker.random.Below(stack.size()); back > 0; --back) {
      if (maker.random.Chance(0.97)) {
        maker.Free(stack.back());
      } else {
        survivors.push_back(stack.back());
      }
      stack.pop_back();
    }
    stack.insert(stack.begin(), survivors.begin(), survivors.end());
    if (maker.random.Chance(0.02)) {
      for (const AllocationId id : stack) maker.Free(id);
      stack.clear();
    }
    if (stack.empty()) stack.push_back(maker.Alloc(512));
  }
  return maker.Finish();
}

Tape TapeOf(std::string_view text) {
  Result<Tape> tape = ParseTape("test", text);
  if (!tape.ok()) std::fprintf(stderr, "%s\n", tape.error().message.c_str());
  CHECK(tape.ok());
  return *std::move(tape);
}

}  // namespace tidemark
