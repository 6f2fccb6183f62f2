// Phantom GPU: stream-ordered memory pools.
#include "state.h"

using namespace ph;

namespace {

void pool_release_chunk_locked(State* s, Pool* p, std::map<uint64_t, Chunk>::iterator it) {
  p->free_ranges.erase(it->first);
  p->reserved -= it->second.size;
  s->used -= it->second.size;
  line_locked(s, "poolRelease", it->second.size, it->first, "");
  p->chunks.erase(it);
}

int pool_alloc_locked(State* s, Pool* p, uint64_t bytes, uint64_t* out) {
  uint64_t need = round_up(bytes ? bytes : 1, kSmallAlign);
  auto best = p->free_ranges.end();
  for (auto it = p->free_ranges.begin(); it != p->free_ranges.end(); ++it)
    if (it->second >= need && (best == p->free_ranges.end() || it->second < best->second)) best = it;
  if (best == p->free_ranges.end()) {
    uint64_t size = round_up(need, s->cfg.pool_chunk);
    if (p->max_size && p->reserved + size > p->max_size) return kOom;
    if (!charge_locked(s, size)) {
      pool_trim_locked(s, p, 0);
      if (!charge_locked(s, size)) {
        size = round_up(need, kPage);
        if (!charge_locked(s, size)) return kOom;
      }
    }
    uint64_t a = take_va_locked(s, size);
    if (!a) {
      s->used -= size;
      return kOom;
    }
    p->chunks[a] = Chunk{size, 0};
    p->reserved += size;
    if (p->reserved > p->reserved_high) p->reserved_high = p->reserved;
    line_locked(s, "poolReserve", size, a, "");
    best = p->free_ranges.emplace(a, size).first;
  }
  uint64_t a = best->first, have = best->second;
  p->free_ranges.erase(best);
  if (have > need) p->free_ranges.emplace(a + need, have - need);
  std::prev(p->chunks.upper_bound(a))->second.live++;
  p->used += need;
  if (p->used > p->used_high) p->used_high = p->used;
  s->allocs[a] = Alloc{bytes, need, s->ordinal++, kDevicePool, nullptr, p};
  *out = a;
  return kOk;
}

}  // namespace

namespace ph {

void pool_trim_locked(State* s, Pool* p, uint64_t keep) {
  for (auto it = p->chunks.end(); it != p->chunks.begin() && p->reserved > keep;) {
    --it;
    if (it->second.live == 0) {
      auto gone = it;
      bool first = it == p->chunks.begin();
      auto after = std::next(it);
      pool_release_chunk_locked(s, p, gone);
      if (first) break;
      it = after;
    }
  }
}

// At a synchronisation the driver gives back what a pool holds over its threshold.
void pools_sync_locked(State* s) {
  for (Pool* p : s->pools)
    if (p->reserved > p->threshold) pool_trim_locked(s, p, p->threshold);
}

void pool_free_locked(Pool* p, uint64_t a, uint64_t need) {
  auto c = std::prev(p->chunks.upper_bound(a));
  c->second.live--;
  p->used -= need;
  uint64_t lo = c->first, hi = c->first + c->second.size;
  auto it = p->free_ranges.emplace(a, need).first;
  auto next = std::next(it);
  if (next != p->free_ranges.end() && it->first + it->second == next->first && next->first < hi) {
    it->second += next->second;
    p->free_ranges.erase(next);
  }
  if (it != p->free_ranges.begin()) {
    auto prev = std::prev(it);
    if (prev->first >= lo && prev->first + prev->second == it->first) {
      prev->second += it->second;
      p->free_ranges.erase(it);
    }
  }
}

}  // namespace ph

void* phantom_pool_default() { return st()->default_pool; }
void* phantom_pool_current() { return st()->current_pool; }
int phantom_pool_set_current(void* pool) {
  Pool* p = static_cast<Pool*>(pool);
  if (!p || p->magic != kPoolMagic) return kInvalidValue;
  st()->current_pool = p;
  return kOk;
}
int phantom_pool_create(void** pool, uint64_t max_size) {
  State* s = st();
  phantom_activate();
  std::lock_guard<std::mutex> l(s->mu);
  Pool* p = new Pool;
  p->max_size = max_size ? round_up(max_size, kPage) : 0;
  s->pools.insert(p);
  *pool = p;
  return kOk;
}
int phantom_pool_destroy(void* pool) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  Pool* p = static_cast<Pool*>(pool);
  if (!p || p->magic != kPoolMagic || p == s->default_pool) return kInvalidValue;
  // Live allocations keep their memory until they are freed; the pool object stays, emptied.
  p->threshold = 0;
  pool_trim_locked(s, p, 0);
  if (s->current_pool == p) s->current_pool = s->default_pool;
  return kOk;
}
int phantom_pool_alloc(uint64_t* out, uint64_t bytes, void* pool) {
  State* s = st();
  phantom_activate();
  *out = 0;
  std::lock_guard<std::mutex> l(s->mu);
  Pool* p = pool ? static_cast<Pool*>(pool) : s->current_pool;
  if (p->magic != kPoolMagic) return kInvalidValue;
  if (!bytes) return kOk;
  int e = bytes > (1ull << 46) ? int(kOom) : pool_alloc_locked(s, p, bytes, out);
  if (e) {
    s->ooms++;
    line_locked(s, "oom", bytes, 0, "cudaMallocAsync");
    return e;
  }
  s->pool_allocs++;
  line_locked(s, "cudaMallocAsync", bytes, *out, "");
  return kOk;
}
int phantom_pool_get(void* pool, int attr, void* value) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  Pool* p = static_cast<Pool*>(pool);
  if (!p || p->magic != kPoolMagic) return kInvalidValue;
  switch (attr) {
    case 1:
    case 2:
    case 3:
      *static_cast<int*>(value) = p->reuse[attr - 1];
      return kOk;
    case 4:
      *static_cast<uint64_t*>(value) = p->threshold;
      return kOk;
    case 5:
      *static_cast<uint64_t*>(value) = p->reserved;
      return kOk;
    case 6:
      *static_cast<uint64_t*>(value) = p->reserved_high;
      return kOk;
    case 7:
      *static_cast<uint64_t*>(value) = p->used;
      return kOk;
    case 8:
      *static_cast<uint64_t*>(value) = p->used_high;
      return kOk;
    default:
      return kInvalidValue;
  }
}
int phantom_pool_set(void* pool, int attr, const void* value) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  Pool* p = static_cast<Pool*>(pool);
  if (!p || p->magic != kPoolMagic) return kInvalidValue;
  switch (attr) {
    case 1:
    case 2:
    case 3:
      p->reuse[attr - 1] = *static_cast<const int*>(value);
      return kOk;
    case 4:
      p->threshold = *static_cast<const uint64_t*>(value);
      return kOk;
    case 6:
      p->reserved_high = p->reserved;
      return kOk;  // only a reset to zero is allowed
    case 8:
      p->used_high = p->used;
      return kOk;
    default:
      return kInvalidValue;
  }
}
int phantom_pool_trim(void* pool, uint64_t keep) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  Pool* p = static_cast<Pool*>(pool);
  if (!p || p->magic != kPoolMagic) return kInvalidValue;
  pool_trim_locked(s, p, keep);
  return kOk;
}
