#include "sim/formats/minimalloc.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <tuple>
#include <utility>

#include "sim/tape_source.h"

namespace tidemark {
namespace {

std::vector<std::string_view> Fields(std::string_view line) {
  std::vector<std::string_view> fields;
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  for (;;) {
    const size_t comma = line.find(',');
    fields.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

// The number in NAME.CAPACITY.csv.
int64_t CapacityOf(std::string_view path) {
  if (!path.ends_with(".csv")) return 0;
  path.remove_suffix(4);
  const size_t dot = path.rfind('.');
  if (dot == std::string_view::npos) return 0;
  int64_t capacity = 0;
  const char* const end = path.data() + path.size();
  const auto [stop, error] = std::from_chars(path.data() + dot + 1, end, capacity);
  return error == std::errc() && stop == end && capacity > 0 ? capacity : 0;
}

constexpr std::array<std::string_view, 4> kColumns = {"id", "lower", "upper", "size"};

class Reader {
 public:
  Reader(std::string name, std::unique_ptr<LineSource> source) : name_(std::move(name)), source_(std::move(source)) {}

  Result<MinimallocInstance> Read() {
    MinimallocInstance instance;
    instance.capacity = CapacityOf(name_);
    std::string_view line;
    for (;;) {
      ++number_;
      Result<bool> more = source_->Next(&line);
      if (!more.ok()) return Wrong(more.error().message);
      if (!*more) break;
      if (line.empty() || line == "\r") continue;
      Status status = number_ == 1 ? Header(line) : Buffer(line, instance);
      if (!status.ok()) return status.error();
    }
    if (number_ == 1) return Wrong("an empty file: wanted a header id,lower,upper,size");
    return instance;
  }

 private:
  Error Wrong(std::string_view message) const {
    return InvalidInput(fmt::format("{}:{}: {}", name_, number_, message));
  }

  Status Header(std::string_view line) {
    const std::vector<std::string_view> names = Fields(line);
    for (size_t k = 0; k < kColumns.size(); ++k) {
      const auto found = std::ranges::find(names, kColumns[k]);
      if (found == names.end()) {
        return Wrong(fmt::format("no column \"{}\": wanted a header id,lower,upper,size", kColumns[k]));
      }
      columns_[k] = static_cast<size_t>(found - names.begin());
    }
    return {};
  }

  Status Buffer(std::string_view line, MinimallocInstance& instance) {
    const std::vector<std::string_view> fields = Fields(line);
    std::array<int64_t, 4> numbers{};
    for (size_t k = 0; k < kColumns.size(); ++k) {
      if (columns_[k] >= fields.size()) return Wrong(fmt::format("column \"{}\" is missing", kColumns[k]));
      if (k == 0) continue;
      const std::string_view field = fields[columns_[k]];
      const auto [stop, error] = std::from_chars(field.data(), field.data() + field.size(), numbers[k]);
      constexpr int64_t kMost = int64_t{1} << 50;
      if (error != std::errc() || stop != field.data() + field.size() || numbers[k] < 0 || numbers[k] > kMost) {
        return Wrong(fmt::format("\"{}\" is no {}: wanted a whole number from 0 to {}", field.substr(0, 60),
                                 kColumns[k], kMost));
      }
    }
    if (numbers[1] >= numbers[2]) return Wrong(fmt::format("lower {} isn't below upper {}", numbers[1], numbers[2]));
    instance.ids.emplace_back(fields[columns_[0]]);
    instance.buffers.push_back({{numbers[1], numbers[2]}, numbers[3]});
    return {};
  }

  std::string name_;
  std::unique_ptr<LineSource> source_;
  std::array<size_t, 4> columns_{};
  uint64_t number_ = 0;
};

}  // namespace

Result<MinimallocInstance> ReadMinimalloc(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<LineSource> source, LineSource::Open(path));
  return Reader(path, std::move(source)).Read();
}

Result<MinimallocInstance> ParseMinimalloc(std::string name, std::string_view content) {
  return Reader(std::move(name), LineSource::FromBuffer(content)).Read();
}

bool LooksLikeMinimalloc(std::string_view content) {
  const std::vector<std::string_view> names = Fields(content.substr(0, content.find('\n')));
  return std::ranges::all_of(kColumns,
                             [&](std::string_view column) { return std::ranges::find(names, column) != names.end(); });
}

Tape TapeOfMinimalloc(const MinimallocInstance& instance) {
  struct Edge {
    int64_t step;
    bool begins;
    size_t buffer;
  };
  std::vector<Edge> edges;
  for (size_t k = 0; k < instance.buffers.size(); ++k) {
    edges.push_back({instance.buffers[k].alive.begin, true, k});
    edges.push_back({instance.buffers[k].alive.end, false, k});
  }
  std::ranges::sort(edges, {},
                    [](const Edge& e) { return std::tuple<int64_t, bool, size_t>(e.step, e.begins, e.buffer); });
  Tape tape;
  std::vector<AllocationId> allocations(instance.buffers.size());
  for (const Edge& edge : edges) {
    Event event;
    if (edge.begins) {
      event.bytes = Bytes(instance.buffers[edge.buffer].size);
      const TextId text = tape.texts.Add(instance.ids[edge.buffer]);
      allocations[edge.buffer] = tape.allocations.Add({.id = edge.buffer, .text = text});
    } else {
      event.kind = EventKind::kFree;
    }
    event.allocation = allocations[edge.buffer];
    tape.events.push_back(event);
  }
  return tape;
}

}  // namespace tidemark
