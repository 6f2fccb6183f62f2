// Simulates a grid's points, on all cores and by all processes that share the work, into a CSV file.
//
//   out.csv          the finished table, a row a point in the grid's order; appears when the last row is there
//   out.csv.part-N   rows of process N as they are finished, each whole or not at all: what a later call resumes from
//
// A row knows its point by a fingerprint (`run`), so that rows of another grid or another base aren't taken for done.
// Processes are told from each other by what mpirun (Open MPI, MPICH) or srun put into the environment; they need a
// common folder and nothing else.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "graph/base/result.h"
#include "tools/sweep/grid.h"

namespace tidemark {

struct SweepOptions {
  std::string output;    // the CSV file
  unsigned threads = 0;  // 0: as many as there are cores, divided among the processes of this machine
  // After each point of this process: how many are done, of how many. May be called by any thread, one at a time.
  std::function<void(size_t, size_t)> on_progress;
};

struct SweepResult {
  size_t points = 0;
  size_t found = 0;       // rows that were there already
  size_t simulated = 0;   // by this process
  size_t failed = 0;      // of those: can't be simulated; the row says why
  bool complete = false;  // the table is written; else other processes still work on it
};

// Errors: files that can't be read or written.
Result<SweepResult> RunSweep(const Grid& grid, const SweepOptions& options);

}  // namespace tidemark
