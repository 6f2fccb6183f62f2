// What the parts of libcuda.so.1 share: the whole state of the phantom, behind one lock. Functions whose name ends in
// _locked want it held.
#pragma once

#include <sys/types.h>

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "core.h"

namespace ph {

inline uint64_t round_up(uint64_t v, uint64_t a) { return (v + a - 1) / a * a; }

struct Slab {
  uint64_t base, next, live;
};
struct Pool;
struct Alloc {
  uint64_t size, charged, ordinal;
  int kind;
  Slab* slab;
  Pool* pool;
};
struct Chunk {
  uint64_t size, live;
};
struct Pool {
  uint32_t magic = kPoolMagic;
  uint64_t threshold = 0, max_size = 0;
  uint64_t reserved = 0, reserved_high = 0, used = 0, used_high = 0;
  int reuse[3] = {1, 1, 1};
  std::map<uint64_t, Chunk> chunks;
  std::map<uint64_t, uint64_t> free_ranges;  // address -> size, coalesced inside a chunk
};
struct HostAlloc {
  uint64_t size, mapped;
  int kind;
  unsigned flags;
};
struct Phys {
  uint64_t size, handle_refs, map_refs;
  unsigned char prop[64];
};
struct Reservation {
  uint64_t size, ordinal;
};
struct Mapping {
  uint64_t size, offset, handle;
};

struct State {
  Config cfg{};
  std::mutex mu;
  // log
  int fd = -1;
  std::string buf;
  uint64_t seq = 0, start_ns = 0;
  bool flush_each = false;
  pid_t pid = 0;
  std::atomic<bool> active{false};
  bool forked = false;
  // addresses
  uint64_t va_base = 0, va_end = 0, next = 0, top = 0, vmm_next = 0, vmm_start = 0;
  uint64_t static_base = 0, static_next = 0, static_end = 0;
  // physical
  uint64_t used = 0, peak = 0, ordinal = 0;
  uint64_t mallocs = 0, frees = 0, ooms = 0, maps = 0, pool_allocs = 0;
  std::map<uint64_t, Alloc> allocs;
  std::map<uint64_t, HostAlloc> hosts;
  Slab* slab = nullptr;
  std::map<uint64_t, Reservation> reservations;
  std::map<uint64_t, Mapping> mappings;
  std::unordered_map<uint64_t, Phys> phys;
  uint64_t next_handle = 1;
  Pool* default_pool = nullptr;
  Pool* current_pool = nullptr;
  std::set<Pool*> pools;
  // streams
  Stream legacy{kStreamMagic}, per_thread{kStreamMagic};
  std::set<Stream*> streams;
  uint64_t next_stream_id = 3;
  std::map<uint64_t, Capture*> captures;
  uint64_t next_capture_id = 1;
  std::unordered_set<const void*> kernels;
  std::atomic<StubCounter*> stubs{nullptr};
};

// The state; made at the first call. Never destroyed: libraries still call in while the process shuts down.
State* st();

// A line of the log.
void line_locked(State* s, const char* op, uint64_t bytes, uint64_t address, const char* extra);

// Physical memory: what there is beside the context; whether `bytes` more fit, and are charged; device addresses (0:
// none left).
uint64_t capacity(const State* s);
bool charge_locked(State* s, uint64_t bytes);
uint64_t take_va_locked(State* s, uint64_t bytes);

// Stream-ordered pools: gives back empty chunks down to `keep` bytes; what a synchronisation gives back; a free.
void pool_trim_locked(State* s, Pool* p, uint64_t keep);
void pools_sync_locked(State* s);
void pool_free_locked(Pool* p, uint64_t address, uint64_t bytes);

// Records on a stream up to `upto` are complete, and what they waited for; all records are.
void complete_locked(Stream* s, uint64_t upto, int depth);
void complete_all_locked(State* s);

extern std::atomic<uint64_t> g_launches, g_graph_launches;
extern bool g_log_kernels;

}  // namespace ph
