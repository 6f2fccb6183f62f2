#include "tools/sweep/sweep.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "tools/compare/variants.h"
#include "tools/formats/files.h"
#include "tools/tape_marks.h"

namespace tidemark {
namespace {

constexpr size_t kFingerprintLength = 16;

// --- Who works beside this process.
struct Team {
  size_t rank = 0;
  size_t size = 1;
  size_t here = 1;  // processes on this machine
};

std::optional<size_t> NumberInEnvironment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  size_t value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

Team FindTeam() {
  struct Names {
    const char* rank;
    const char* size;
    const char* here;
  };
  constexpr std::array<Names, 3> kLaunchers = {
      {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"},
       {"PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"},
       {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"}}};
  for (const Names& names : kLaunchers) {
    const std::optional<size_t> rank = NumberInEnvironment(names.rank);
    const std::optional<size_t> size = NumberInEnvironment(names.size);
    if (!rank || !size || *rank >= *size) continue;
    return {*rank, *size, std::max<size_t>(1, NumberInEnvironment(names.here).value_or(*size))};
  }
  return {};
}

// --- Rows
std::string Quoted(const std::string& field) {
  if (field.find_first_of(",\"\n\r") == std::string::npos) return field;
  std::string quoted = "\"";
  for (const char c : field)
    quoted += c == '"' ? std::string("\"\"") : std::string(1, c == '\n' || c == '\r' ? ' ' : c);
  return quoted + "\"";
}

std::string HeaderOf(const Grid& grid) {
  std::string header = "run,";
  for (const std::string& key : grid.keys) header += Quoted(key) + ",";
  return header +
         "fits,requested_bytes,allocated_bytes,active_bytes,reserved_bytes,process_bytes,peak_at,peak_op,step_us,error";
}

std::string RowOf(const GridPoint& point, const Result<Variant>& variant) {
  std::string row = point.fingerprint + ",";
  for (const std::string& value : point.values) row += Quoted(value) + ",";
  if (!variant.ok()) return row + ",,,,,,,,," + Quoted(variant.error().message);
  const Report& report = variant->report;
  row += fmt::format("{},{},{},{},{},{},", report.fits, report.requested_peak.count(), report.allocated_peak.count(),
                     report.active_peak.count(), report.reserved_peak.count(), report.process_peak.value.count());
  row += Quoted(DescribeMoment(report.at)) + "," + Quoted(report.at.op) + ",";
  if (report.time) row += fmt::format("{:.3f}", report.time->step_us);
  return row + ",";
}

// Rows of the grid's points by fingerprint, from the table and what processes have left; of each file only whole lines.
using Rows = std::map<std::string, std::string>;

Status TakeRows(const std::string& path, const Grid& grid, Rows& rows) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const std::string header = HeaderOf(grid);
  size_t begin = 0;
  for (size_t end = text.find('\n'); end != std::string::npos; begin = end + 1, end = text.find('\n', begin)) {
    const std::string line = text.substr(begin, end - begin);
    if (begin == 0) {
      if (line != header) return {};  // of another grid
      continue;
    }
    if (line.size() > kFingerprintLength) rows.try_emplace(line.substr(0, kFingerprintLength), line);
  }
  return {};
}

std::vector<std::string> PartFiles(const std::string& output) {
  const std::filesystem::path path(output);
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const std::string prefix = path.filename().string() + ".part-";
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().filename().string().starts_with(prefix)) files.push_back(entry.path().string());
  }
  std::ranges::sort(files);
  return files;
}

Result<Rows> FindRows(const Grid& grid, const std::string& output) {
  Rows rows;
  if (std::filesystem::exists(output)) RETURN_IF_ERROR(TakeRows(output, grid, rows));
  for (const std::string& part : PartFiles(output)) RETURN_IF_ERROR(TakeRows(part, grid, rows));
  return rows;
}

Error FileError(const std::string& path) {
  return InvalidInput(fmt::format("{} can't be written: {}", path, std::strerror(errno)));
}

// This process's part: a line at a time.
class PartFile {
 public:
  static Result<PartFile> Open(const std::string& path, const std::string& header) {
    PartFile file;
    file.path_ = path;
    file.descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file.descriptor_ < 0) return FileError(path);
    if (::flock(file.descriptor_, LOCK_EX | LOCK_NB) != 0) {
      return InvalidInput(path + ": another sweep is writing it; wait for its end, or choose another -o");
    }
    if (::ftruncate(file.descriptor_, 0) != 0) return FileError(path);
    RETURN_IF_ERROR(file.Write(header));
    return file;
  }
  PartFile(PartFile&& other) noexcept
      : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}
  PartFile& operator=(PartFile&&) = delete;
  ~PartFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  Status Write(const std::string& line) {
    const std::string text = line + "\n";
    if (::write(descriptor_, text.data(), text.size()) != static_cast<ssize_t>(text.size())) return FileError(path_);
    return {};
  }

 private:
  PartFile() = default;
  std::string path_;
  int descriptor_ = -1;
};

// Simulates points on several threads.
class Worker {
 public:
  Worker(const Grid& grid, const SweepOptions& options, std::vector<size_t> todo, PartFile& file)
      : grid_(grid), options_(options), todo_(std::move(todo)), file_(file) {}

  Status Run(unsigned threads) {
    std::vector<std::thread> team;
    for (unsigned i = 1; i < threads && i < todo_.size(); ++i) team.emplace_back([this] { Work(); });
    Work();
    for (std::thread& thread : team) thread.join();
    return status_;
  }
  size_t failed() const { return failed_; }

 private:
  void Work() {
    for (size_t i = next_++; i < todo_.size(); i = next_++) {
      const GridPoint& point = grid_.points[todo_[i]];
      const Result<Variant> variant = SimulateVariant("", point.run);
      const std::lock_guard lock(mutex_);
      if (!status_.ok()) return;
      status_ = file_.Write(RowOf(point, variant));
      if (!variant.ok()) ++failed_;
      if (options_.on_progress) options_.on_progress(++done_, todo_.size());
    }
  }

  const Grid& grid_;
  const SweepOptions& options_;
  const std::vector<size_t> todo_;
  PartFile& file_;
  std::atomic<size_t> next_ = 0;
  std::mutex mutex_;  // of what follows
  Status status_;
  size_t done_ = 0, failed_ = 0;
};

// Writes the table where all rows are there, and takes the parts away. One process at a time.
Result<bool> Complete(const Grid& grid, const std::string& output) {
  const std::string lock_path = output + ".lock";
  const int lock = ::open(lock_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (lock < 0) return FileError(lock_path);
  ::flock(lock, LOCK_EX);
  const auto finish = [&]() -> Result<bool> {
    ASSIGN_OR_RETURN(const Rows rows, FindRows(grid, output));
    std::string table = HeaderOf(grid) + "\n";
    for (const GridPoint& point : grid.points) {
      const auto row = rows.find(point.fingerprint);
      if (row == rows.end()) return false;
      table += row->second + "\n";
    }
    RETURN_IF_ERROR(WriteFile(output, table));
    std::error_code error;
    for (const std::string& part : PartFiles(output)) std::filesystem::remove(part, error);
    std::filesystem::remove(lock_path, error);
    return true;
  };
  Result<bool> complete = finish();
  ::close(lock);
  return complete;
}

unsigned ThreadsOf(const SweepOptions& options, const Team& team) {
  if (options.threads > 0) return options.threads;
  return std::max(1U, std::thread::hardware_concurrency() / static_cast<unsigned>(team.here));
}

}  // namespace

Result<SweepResult> RunSweep(const Grid& grid, const SweepOptions& options) {
  const Team team = FindTeam();
  ASSIGN_OR_RETURN(const Rows rows, FindRows(grid, options.output));
  SweepResult result = {.points = grid.points.size()};
  std::vector<size_t> todo;
  std::vector<std::string> kept;  // of this process's own part, which is written anew
  for (size_t i = 0; i < grid.points.size(); ++i) {
    const auto row = rows.find(grid.points[i].fingerprint);
    if (row != rows.end()) {
      ++result.found;
      kept.push_back(row->second);
    } else if (i % team.size == team.rank) {
      todo.push_back(i);
    }
  }
  result.simulated = todo.size();
  if (!todo.empty()) {
    const std::string part = fmt::format("{}.part-{}", options.output, team.rank);
    ASSIGN_OR_RETURN(PartFile file, PartFile::Open(part, HeaderOf(grid)));
    for (const std::string& row : kept) RETURN_IF_ERROR(file.Write(row));
    Worker worker(grid, options, std::move(todo), file);
    RETURN_IF_ERROR(worker.Run(ThreadsOf(options, team)));
    result.failed = worker.failed();
  }
  ASSIGN_OR_RETURN(result.complete, Complete(grid, options.output));
  return result;
}

}  // namespace tidemark
