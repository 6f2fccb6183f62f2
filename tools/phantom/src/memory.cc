// Phantom GPU: physical memory, device addresses, host memory, copies.
#include <sys/mman.h>

#include <cstdio>
#include <cstring>

#include "state.h"

using namespace ph;

namespace ph {

uint64_t capacity(const State* s) { return s->cfg.total > s->cfg.context ? s->cfg.total - s->cfg.context : 0; }

bool charge_locked(State* s, uint64_t bytes) {
  if (bytes > capacity(s) || s->used > capacity(s) - bytes) return false;
  s->used += bytes;
  if (s->used > s->peak) s->peak = s->used;
  return true;
}

uint64_t take_va_locked(State* s, uint64_t bytes) {
  const uint64_t size = round_up(bytes, kPage), room = s->top - s->next;
  if (size > room) {
    fprintf(stderr, "phantom: device addresses used up; set PHANTOM_VA_GIB higher\n");
    return 0;
  }
  if (s->cfg.falling) return s->top -= size;
  const uint64_t a = s->next;
  s->next = a + size;
  return a;
}

}  // namespace ph

int phantom_malloc(uint64_t* out, uint64_t bytes, const char* op) {
  State* s = st();
  phantom_activate();
  *out = 0;
  if (bytes == 0) return kOk;
  std::lock_guard<std::mutex> l(s->mu);
  auto oom = [&]() {
    s->ooms++;
    line_locked(s, "oom", bytes, 0, op);
    return int(kOom);
  };
  if (bytes > (1ull << 46)) return oom();
  Alloc a{bytes, 0, 0, kDeviceMalloc, nullptr, nullptr};
  uint64_t address;
  if (bytes >= kBig) {
    a.charged = round_up(bytes, kPage);
    if (!charge_locked(s, a.charged)) {
      // The driver takes back unused memory of the pools before it gives up.
      for (Pool* p : s->pools) pool_trim_locked(s, p, 0);
      if (!charge_locked(s, a.charged)) return oom();
    }
    address = take_va_locked(s, bytes);
    if (!address) {
      s->used -= a.charged;
      return oom();
    }
  } else {
    uint64_t size = round_up(bytes, kSmallAlign);
    if (!s->slab || s->slab->next + size > s->slab->base + kPage) {
      if (!charge_locked(s, kPage)) return oom();
      uint64_t base = take_va_locked(s, kPage);
      if (!base) {
        s->used -= kPage;
        return oom();
      }
      s->slab = new Slab{base, base, 0};
    }
    a.kind = kDeviceSmall;
    a.slab = s->slab;
    address = s->slab->next;
    s->slab->next += size;
    s->slab->live++;
  }
  a.ordinal = s->ordinal++;
  s->allocs[address] = a;
  s->mallocs++;
  line_locked(s, op, bytes, address, "");
  *out = address;
  return kOk;
}

int phantom_free(uint64_t address, const char* op) {
  State* s = st();
  if (!address) return kOk;
  std::lock_guard<std::mutex> l(s->mu);
  auto it = s->allocs.find(address);
  if (it == s->allocs.end()) return kInvalidValue;
  Alloc a = it->second;
  s->allocs.erase(it);
  if (a.kind == kDevicePool) {
    pool_free_locked(a.pool, address, a.charged);
  } else if (a.kind == kDeviceSmall) {
    if (--a.slab->live == 0) {
      s->used -= kPage;
      if (s->slab == a.slab) s->slab = nullptr;
      delete a.slab;
    }
  } else {
    s->used -= a.charged;
  }
  s->frees++;
  // cudaFree waits for the device; a stream-ordered free doesn't.
  if (strcmp(op, "cudaFreeAsync") != 0) complete_all_locked(s);
  line_locked(s, op, a.size, address, "");
  return kOk;
}

// Memory of modules belongs to the context, so it isn't charged.
int phantom_static_address(uint64_t* out, uint64_t bytes) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  uint64_t size = round_up(bytes ? bytes : 1, kSmallAlign);
  if (s->static_next + size > s->static_end) return kOom;
  *out = s->static_next;
  s->allocs[*out] = Alloc{bytes, 0, s->ordinal, kDeviceStatic, nullptr, nullptr};
  s->static_next += size;
  return kOk;
}

int phantom_host_alloc(void** out, uint64_t bytes, unsigned flags, int kind, const char* op) {
  State* s = st();
  phantom_activate();
  *out = nullptr;
  if (!bytes) return kOk;
  uint64_t mapped = round_up(bytes, 4096);
  void* p = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return kOom;
  std::lock_guard<std::mutex> l(s->mu);
  s->hosts[reinterpret_cast<uint64_t>(p)] = HostAlloc{bytes, mapped, kind, flags};
  line_locked(s, op, bytes, reinterpret_cast<uint64_t>(p), "host");
  *out = p;
  return kOk;
}

int phantom_host_free(void* p, const char* op) {
  State* s = st();
  if (!p) return kOk;
  std::lock_guard<std::mutex> l(s->mu);
  auto it = s->hosts.find(reinterpret_cast<uint64_t>(p));
  if (it == s->hosts.end() || it->second.kind == kHostRegistered) return kInvalidValue;
  munmap(p, it->second.mapped);
  line_locked(s, op, it->second.size, it->first, "host");
  s->hosts.erase(it);
  complete_all_locked(s);
  return kOk;
}

int phantom_host_register(void* p, uint64_t bytes, unsigned flags) {
  State* s = st();
  phantom_activate();
  if (!p || !bytes) return kInvalidValue;
  std::lock_guard<std::mutex> l(s->mu);
  uint64_t a = reinterpret_cast<uint64_t>(p);
  auto it = s->hosts.upper_bound(a);
  if (it != s->hosts.begin()) {
    auto prev = std::prev(it);
    if (prev->first + prev->second.size > a) return kHostAlreadyRegistered;
  }
  if (it != s->hosts.end() && it->first < a + bytes) return kHostAlreadyRegistered;
  s->hosts[a] = HostAlloc{bytes, 0, kHostRegistered, flags};
  line_locked(s, "cudaHostRegister", bytes, a, "host");
  return kOk;
}

int phantom_host_unregister(void* p) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  auto it = s->hosts.find(reinterpret_cast<uint64_t>(p));
  if (it == s->hosts.end() || it->second.kind != kHostRegistered) return kHostNotRegistered;
  line_locked(s, "cudaHostUnregister", it->second.size, it->first, "host");
  s->hosts.erase(it);
  return kOk;
}

bool phantom_is_device(uint64_t a) {
  State* s = st();
  return a >= s->va_base && a < s->va_end;
}

int phantom_pointer(uint64_t address, PtrInfo* info) {
  State* s = st();
  *info = PtrInfo{};
  std::lock_guard<std::mutex> l(s->mu);
  if (!phantom_is_device(address)) {
    auto it = s->hosts.upper_bound(address);
    if (it == s->hosts.begin()) return kInvalidValue;
    --it;
    if (address >= it->first + it->second.size) return kInvalidValue;
    info->kind = it->second.kind;
    info->base = it->first;
    info->size = it->second.size;
    info->flags = it->second.flags;
    return kOk;
  }
  auto it = s->allocs.upper_bound(address);
  if (it != s->allocs.begin()) {
    --it;
    if (address < it->first + it->second.size) {
      info->kind = it->second.kind;
      info->base = it->first;
      info->size = it->second.size;
      info->ordinal = it->second.ordinal;
      return kOk;
    }
  }
  auto m = s->mappings.upper_bound(address);
  if (m != s->mappings.begin()) {
    --m;
    if (address < m->first + m->second.size) {
      info->kind = kDeviceVmm;
      info->map_base = m->first;
      info->map_size = m->second.size;
      auto r = std::prev(s->reservations.upper_bound(address));
      info->base = r->first;
      info->size = r->second.size;
      info->ordinal = r->second.ordinal;
      return kOk;
    }
  }
  return kInvalidValue;
}

int phantom_query_address(uint64_t address, uint64_t* base, uint64_t* size, uint64_t* ordinal, int* kind) {
  PtrInfo i;
  int e = phantom_pointer(address, &i);
  if (e) return e;
  *base = i.base;
  *size = i.size;
  *ordinal = i.ordinal;
  *kind = i.kind;
  return kOk;
}

void phantom_mem_info(MemInfo* m) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  m->total = s->cfg.total;
  m->capacity = capacity(s);
  m->used = s->used;
  m->peak = s->peak;
  m->free = m->capacity - s->used;
}

void phantom_counters(uint64_t out[8]) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  out[0] = s->used;
  out[1] = s->peak;
  out[2] = s->mallocs;
  out[3] = s->frees;
  out[4] = s->ooms;
  out[5] = g_launches.load();
  out[6] = s->maps;
  out[7] = s->ordinal;
}

void phantom_reset_peak() {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  s->peak = s->used;
}

void phantom_copy(void* dst, const void* src, uint64_t bytes) {
  if (!bytes || phantom_is_device(reinterpret_cast<uint64_t>(dst))) return;
  if (phantom_is_device(reinterpret_cast<uint64_t>(src)))
    memset(dst, 0, bytes);
  else
    memmove(dst, src, bytes);
}
void phantom_copy_2d(void* dst, uint64_t dp, const void* src, uint64_t sp, uint64_t w, uint64_t h) {
  for (uint64_t i = 0; i < h; ++i)
    phantom_copy(static_cast<char*>(dst) + i * dp, static_cast<const char*>(src) + i * sp, w);
}
void phantom_set(void* dst, int value, uint64_t bytes) {
  if (!bytes || phantom_is_device(reinterpret_cast<uint64_t>(dst))) return;
  memset(dst, value, bytes);
}
