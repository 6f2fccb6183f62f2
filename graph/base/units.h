// Unit types. An amount of memory is not an int: adding a count to bytes, or bytes to an address, does not compile.
#pragma once

#include <compare>
#include <cstdint>

namespace tidemark {

// An amount of memory, in whole bytes. Signed, so that a wrong subtraction shows up as a negative number and not as
// 18 exabytes. Bytes +- bytes, bytes x count, bytes / bytes (a ratio) and bytes % bytes exist; nothing else does.
class Bytes {
 public:
  constexpr Bytes() = default;
  constexpr explicit Bytes(int64_t count) : count_(count) {}
  constexpr int64_t count() const { return count_; }
  constexpr auto operator<=>(const Bytes&) const = default;
  constexpr Bytes operator-() const { return Bytes(-count_); }
  constexpr Bytes operator+(Bytes other) const { return Bytes(count_ + other.count_); }
  constexpr Bytes operator-(Bytes other) const { return Bytes(count_ - other.count_); }
  constexpr Bytes operator*(int64_t times) const { return Bytes(count_ * times); }
  constexpr double operator/(Bytes other) const {
    return static_cast<double>(count_) / static_cast<double>(other.count_);
  }
  constexpr Bytes operator%(Bytes other) const { return Bytes(count_ % other.count_); }
  constexpr Bytes& operator+=(Bytes other) { return *this = *this + other; }
  constexpr Bytes& operator-=(Bytes other) { return *this = *this - other; }

 private:
  int64_t count_ = 0;
};

constexpr Bytes kKiB{int64_t{1} << 10};
constexpr Bytes kMiB{int64_t{1} << 20};
constexpr Bytes kGiB{int64_t{1} << 30};

// a / b, rounded up. REQUIRES: a >= 0, b > 0.
constexpr int64_t DivUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Bytes rounded up to a multiple of `step`. REQUIRES: bytes >= 0, step > 0.
constexpr Bytes RoundUp(Bytes bytes, Bytes step) {
  return Bytes((bytes.count() + step.count() - 1) / step.count() * step.count());
}

namespace literals {
constexpr Bytes operator""_B(unsigned long long n) { return Bytes(static_cast<int64_t>(n)); }
constexpr Bytes operator""_KiB(unsigned long long n) { return kKiB * static_cast<int64_t>(n); }
constexpr Bytes operator""_MiB(unsigned long long n) { return kMiB * static_cast<int64_t>(n); }
constexpr Bytes operator""_GiB(unsigned long long n) { return kGiB * static_cast<int64_t>(n); }
}  // namespace literals

// Floating-point operations.
class Flops {
 public:
  constexpr Flops() = default;
  constexpr explicit Flops(double count) : count_(count) {}
  constexpr double count() const { return count_; }
  constexpr auto operator<=>(const Flops&) const = default;
  constexpr Flops operator+(Flops other) const { return Flops(count_ + other.count_); }

 private:
  double count_ = 0;
};

// A duration in nanoseconds; modelled time, never the wall clock's.
class Nanos {
 public:
  constexpr Nanos() = default;
  constexpr explicit Nanos(double count) : count_(count) {}
  constexpr double count() const { return count_; }
  constexpr double microseconds() const { return count_ / 1e3; }
  constexpr auto operator<=>(const Nanos&) const = default;
  constexpr Nanos operator+(Nanos other) const { return Nanos(count_ + other.count_); }
  constexpr Nanos& operator+=(Nanos other) { return *this = *this + other; }

 private:
  double count_ = 0;
};

}  // namespace tidemark
