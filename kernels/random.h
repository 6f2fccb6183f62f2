// Random numbers by counter: the same stream and index give the same number on every machine.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define TIDEMARK_HOST_DEVICE __host__ __device__
#else
#define TIDEMARK_HOST_DEVICE
#endif

namespace tidemark {

// 32 random bits: SplitMix64's finaliser over stream and index.
TIDEMARK_HOST_DEVICE inline uint32_t RandomBits(int64_t stream, int64_t index) {
  uint64_t z = static_cast<uint64_t>(stream) * 0xd1342543de82ef95U + static_cast<uint64_t>(index) + 1;
  z *= 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 32);
}

// A probability in units of 2^-32, and whether the element survives dropout of that rate.
constexpr double kProbabilityUnit = 4294967296.0;
TIDEMARK_HOST_DEVICE inline bool Survives(int64_t stream, int64_t index, int64_t rate) {
  return static_cast<int64_t>(RandomBits(stream, index)) >= rate;
}

}  // namespace tidemark
