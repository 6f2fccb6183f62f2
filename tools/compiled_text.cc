#include "tools/compiled_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

namespace tidemark {
namespace {

using compile::GraphSummary;
using compile::KernelSummary;
using compile::ValueSummary;

constexpr size_t kNamed = 4;  // values in a sentence

// "h.3.mlp" -> "h.*.mlp": blocks are alike.
std::string AllBlocks(std::string_view module) {
  std::string name;
  for (size_t i = 0; i < module.size(); ++i) {
    const bool digit = std::isdigit(static_cast<unsigned char>(module[i])) != 0;
    const bool begins = i == 0 || module[i - 1] == '.';
    if (digit && begins) {
      while (i + 1 < module.size() && std::isdigit(static_cast<unsigned char>(module[i + 1])) != 0) ++i;
      const bool ends = i + 1 == module.size() || module[i + 1] == '.';
      name += ends ? '*' : module[i];
      continue;
    }
    name += module[i];
  }
  return name;
}

struct Sum {
  std::string what;
  size_t count = 0;
  Bytes bytes;
};

// "mul in h.*.ln_1 (6 x 12.0 MiB)", the largest sums first.
std::string Largest(const std::vector<ValueSummary>& values) {
  std::vector<Sum> sums;
  for (const ValueSummary& v : values) {
    std::string what = v.module.empty() ? v.op : fmt::format("{} in {}", v.op, AllBlocks(v.module));
    const auto at = std::ranges::find(sums, what, &Sum::what);
    Sum& sum = at == sums.end() ? sums.emplace_back(Sum{std::move(what), 0, {}}) : *at;
    ++sum.count;
    sum.bytes += v.bytes;
  }
  std::ranges::stable_sort(sums, std::ranges::greater(), &Sum::bytes);
  std::vector<std::string> words;
  for (const Sum& sum : sums) {
    if (words.size() == kNamed) break;
    words.push_back(fmt::format("{} ({:.1f} MiB)", sum.what, sum.bytes / kMiB));
  }
  return fmt::format("{}", fmt::join(words, ", "));
}

Bytes BytesOf(const std::vector<ValueSummary>& values) {
  Bytes bytes;
  for (const ValueSummary& v : values) bytes += v.bytes;
  return bytes;
}

// Saved values that weren't there anyway: parameters and batches are.
std::vector<ValueSummary> Computed(const std::vector<ValueSummary>& saved) {
  std::vector<ValueSummary> computed;
  std::ranges::copy_if(saved, std::back_inserter(computed),
                       [](const ValueSummary& v) { return !v.name.starts_with("primals_"); });
  return computed;
}

std::string TypeOf(const ValueSummary& v) {
  return fmt::format("{}[{}]", Name(v.dtype), fmt::join(std::vector<int64_t>(v.sizes.begin(), v.sizes.end()), ", "));
}

}  // namespace

std::vector<std::string> CompiledNotes(const std::vector<GraphSummary>& graphs) {
  std::vector<std::string> notes;
  for (const GraphSummary& g : graphs) {
    const auto calls = static_cast<size_t>(std::ranges::count_if(g.kernels, &KernelSummary::is_library));
    notes.push_back(fmt::format("{}: {} fused kernels and {} library calls write {} buffers", g.name,
                                g.kernels.size() - calls, calls, g.buffers.size()));
    if (!g.fused.empty()) {
      notes.push_back(fmt::format("  fusion removed {} values, {:.1f} MiB in all: above all {}", g.fused.size(),
                                  BytesOf(g.fused) / kMiB, Largest(g.fused)));
    }
    if (!g.saved.empty()) {
      const std::vector<ValueSummary> computed = Computed(g.saved);
      notes.push_back(
          fmt::format("  the min-cut saves {} values, {:.1f} MiB (and {} inputs, which are there anyway): "
                      "above all {}",
                      computed.size(), BytesOf(computed) / kMiB, g.saved.size() - computed.size(), Largest(computed)));
    }
    if (!g.computed_again.empty()) {
      notes.push_back(fmt::format("  instead of being saved, {} values, {:.1f} MiB, are computed again: above all {}",
                                  g.computed_again.size(), BytesOf(g.computed_again) / kMiB,
                                  Largest(g.computed_again)));
    }
  }
  return notes;
}

std::vector<std::string> CompiledLines(const std::vector<GraphSummary>& graphs) {
  std::vector<std::string> lines;
  for (const GraphSummary& g : graphs) {
    lines.push_back(fmt::format("kernels of {}", g.name));
    for (const KernelSummary& k : g.kernels) {
      const std::string where = k.module.empty() ? "" : " @ " + k.module;
      lines.push_back(k.is_library ? fmt::format("  {}{}", k.name, where)
                                   : fmt::format("  {}{}: {}", k.name, where, fmt::join(k.ops, ", ")));
    }
    if (g.saved.empty()) continue;
    lines.push_back(fmt::format("saved by {}", g.name));
    for (const ValueSummary& v : g.saved) {
      lines.push_back(fmt::format("  {:<28}{:<32}{:>10.3f} MiB  {}{}", v.name, TypeOf(v), v.bytes / kMiB, v.op,
                                  v.module.empty() ? "" : " @ " + v.module));
    }
  }
  return lines;
}

}  // namespace tidemark
