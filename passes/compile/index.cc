#include "passes/compile/index.h"

#include <algorithm>
#include <tuple>

namespace tidemark::compile {
namespace {

bool BothLess(Extent a, Extent b) { return a.hint() < b.hint() && a.now() < b.now(); }
bool BothAtMost(Extent a, Extent b) { return a.hint() <= b.hint() && a.now() <= b.now(); }

Extent CeilDiv(Extent a, Extent b) { return (a + b - 1) / b; }

constexpr int64_t kUnbounded = int64_t{1} << 40;

// How many values a term's digit takes.
Extent CountOf(const Term& t, const std::vector<Extent>& ranges) {
  if (t.variable >= kIndirectVariable) return kUnbounded;
  const Extent whole = CeilDiv(ranges[static_cast<size_t>(t.variable)], t.divisor);
  return t.modulus.is(0) || BothLess(whole, t.modulus) ? whole : t.modulus;
}

auto KeyOf(const Term& t) { return std::tuple(t.variable, t.divisor); }

}  // namespace

Index Index::Variable(int v) {
  Index index;
  index.terms_.push_back({1, v, 1, 0});
  return index;
}

Index Index::Pinned(bool pinned) const {
  Index result = *this;
  for (Term& t : result.terms_) t.pinned = pinned;
  return result;
}

bool Index::Uses(int variable) const {
  return std::ranges::any_of(terms_, [&](const Term& t) { return t.variable == variable; });
}

Extent Index::StrideOf(int variable) const {
  Extent stride = 0;
  for (const Term& t : terms_) {
    if (t.variable == variable && t.divisor.is(1)) stride += t.coefficient;
  }
  return stride;
}

bool Index::IsAffine() const {
  return exact_ && std::ranges::all_of(terms_, [](const Term& t) { return t.divisor.is(1) && t.modulus.is(0); });
}

Index Index::operator+(const Index& other) const {
  Index sum = *this;
  sum.offset_ += other.offset_;
  sum.exact_ = exact_ && other.exact_;
  for (const Term& t : other.terms_) {
    const auto same = std::ranges::find_if(sum.terms_, [&](const Term& s) {
      return s.variable == t.variable && s.divisor == t.divisor && s.modulus == t.modulus;
    });
    if (same == sum.terms_.end()) {
      sum.terms_.push_back(t);
    } else {
      same->coefficient += t.coefficient;
    }
  }
  std::erase_if(sum.terms_, [](const Term& t) { return t.coefficient.is(0); });
  std::ranges::sort(sum.terms_, {}, KeyOf);
  return sum;
}

Index Index::operator*(Extent factor) const {
  Index product;
  if (factor.is(0)) return product;
  product = *this;
  product.offset_ *= factor;
  for (Term& t : product.terms_) t.coefficient *= factor;
  return product;
}

Index Index::InexactFloorMod(Extent divisor, Extent modulus) const {
  const auto digit = [&](Extent value) {
    value = value / divisor;
    return modulus.is(0) ? value : value % modulus;
  };
  Index result(digit(offset_));
  result.exact_ = false;
  for (Term t : terms_) {
    const Extent step = t.divisor.is(1) ? digit(offset_ + t.coefficient) - digit(offset_) : Extent(0);
    if (!step.is(0)) {
      t.coefficient = step;
      t.modulus = modulus;
    } else {
      t.divisor *= divisor;
      if (t.divisor.is(1)) continue;  // a multiple of the modulus
    }
    result.terms_.push_back(t);
  }
  return result;
}

Index Index::FloorMod(const std::vector<Extent>& ranges, Extent divisor, Extent modulus, bool pinned) const {
  if (divisor.is(1) && modulus.is(0)) return pinned ? Pinned(true) : *this;
  const auto unknown = [&] { return InexactFloorMod(divisor, modulus); };
  if (!exact_) return unknown();
  Index result;
  if (!modulus.is(0) && offset_.DivisibleBy(divisor * modulus)) {
    // Goes.
  } else if (modulus.is(0) && offset_.DivisibleBy(divisor)) {
    result.offset_ = offset_ / divisor;
  } else {
    return unknown();
  }
  for (Term t : terms_) {
    t.pinned = t.pinned || pinned;
    Extent count = CountOf(t, ranges);
    // floor(. / divisor): what lies below the divisor goes.
    if (t.coefficient.DivisibleBy(divisor)) {
      t.coefficient = t.coefficient / divisor;
    } else {
      if (!divisor.DivisibleBy(t.coefficient)) return unknown();
      const Extent ratio = divisor / t.coefficient;
      if (BothAtMost(count, ratio)) continue;
      t.divisor *= ratio;
      if (!t.modulus.is(0)) {
        if (!t.modulus.DivisibleBy(ratio)) return unknown();
        t.modulus = t.modulus / ratio;
      }
      t.coefficient = 1;
      count = CeilDiv(count, ratio);
    }
    // mod modulus: what lies above it goes.
    if (!modulus.is(0)) {
      if (t.coefficient.DivisibleBy(modulus)) continue;
      const bool whole = t.pinned && t.divisor.is(1) && t.modulus.is(0);
      if (whole || BothLess(modulus, t.coefficient * count)) {
        if (!modulus.DivisibleBy(t.coefficient)) return unknown();
        t.modulus = modulus / t.coefficient;
      }
    }
    result.terms_.push_back(t);
  }
  result.Normalize(ranges);
  return result;
}

Index Index::Substitute(const std::vector<Index>& map, const std::vector<Extent>& ranges) const {
  Index result(offset_);
  result.exact_ = exact_;
  for (const Term& t : terms_) {
    const Index value = t.variable >= kIndirectVariable ? Variable(t.variable) : map[static_cast<size_t>(t.variable)];
    result = result + value.FloorMod(ranges, t.divisor, t.modulus, t.pinned) * t.coefficient;
  }
  result.Normalize(ranges);
  return result;
}

Index Index::RenumberIndirect(int first) const {
  Index result = *this;
  for (Term& t : result.terms_) {
    if (t.variable >= kIndirectVariable) t.variable += first - kIndirectVariable;
  }
  return result;
}

bool Index::IsIndirect(int from) const {
  return std::ranges::any_of(terms_, [&](const Term& t) { return t.variable >= from; });
}

void Index::Normalize(const std::vector<Extent>& ranges) {
  for (Term& t : terms_) {
    if (t.variable >= kIndirectVariable || t.pinned) continue;
    const Extent whole = CeilDiv(ranges[static_cast<size_t>(t.variable)], t.divisor);
    if (!t.modulus.is(0) && BothAtMost(whole, t.modulus)) t.modulus = 0;
  }
  if (exact_) std::erase_if(terms_, [&](const Term& t) { return CountOf(t, ranges).is(1); });
  std::ranges::sort(terms_, {}, KeyOf);
  for (size_t i = 0; i + 1 < terms_.size();) {
    Term& low = terms_[i];
    const Term& high = terms_[i + 1];
    const bool adjacent = low.variable == high.variable && !low.modulus.is(0) &&
                          high.divisor == low.divisor * low.modulus &&
                          high.coefficient == low.coefficient * low.modulus;
    if (!adjacent) {
      ++i;
      continue;
    }
    low.modulus = high.modulus.is(0) ? Extent(0) : low.modulus * high.modulus;
    terms_.erase(terms_.begin() + static_cast<std::ptrdiff_t>(i) + 1);
  }
}

std::vector<Index> ReshapeIndices(const Shape& old_sizes, const Shape& new_sizes) {
  std::vector<Extent> ranges(new_sizes.begin(), new_sizes.end());
  // The flat element number, then its digits.
  Index flat;
  Extent stride = 1;
  for (int i = new_sizes.size(); i-- > 0;) {
    if (!new_sizes[i].is(1)) flat = flat + Index::Variable(i) * stride;
    stride *= new_sizes[i];
  }
  std::vector<Index> indices(static_cast<size_t>(old_sizes.size()));
  stride = 1;
  for (int i = old_sizes.size(); i-- > 0;) {
    if (!old_sizes[i].is(1)) indices[static_cast<size_t>(i)] = flat.FloorMod(ranges, stride, old_sizes[i]);
    stride *= old_sizes[i];
  }
  return indices;
}

}  // namespace tidemark::compile
