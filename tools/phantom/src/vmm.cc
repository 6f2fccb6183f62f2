// Phantom GPU: virtual memory management.
#include <cstdio>
#include <cstring>

#include "state.h"

using namespace ph;

namespace {

void unphys_locked(State* s, uint64_t handle) {
  auto it = s->phys.find(handle);
  if (it == s->phys.end() || it->second.handle_refs || it->second.map_refs) return;
  s->used -= it->second.size;
  line_locked(s, "physFree", it->second.size, handle, "");
  s->phys.erase(it);
}

}  // namespace

int phantom_vmm_reserve(uint64_t* out, uint64_t bytes, uint64_t align) {
  State* s = st();
  if (!bytes || bytes % kPage) return kInvalidValue;
  if (align < kPage) align = kPage;
  std::lock_guard<std::mutex> l(s->mu);
  uint64_t a = round_up(s->vmm_next, align);
  if (bytes > s->va_end || a > s->va_end - bytes) {
    fprintf(stderr, "phantom: device addresses used up; set PHANTOM_VA_GIB higher\n");
    return kOom;
  }
  s->vmm_next = a + bytes;
  s->reservations[a] = Reservation{bytes, s->ordinal++};
  line_locked(s, "cuMemAddressReserve", bytes, a, "");
  *out = a;
  return kOk;
}

int phantom_vmm_unreserve(uint64_t address, uint64_t bytes) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  auto it = s->reservations.find(address);
  if (it == s->reservations.end() || it->second.size != bytes) return kInvalidValue;
  auto m = s->mappings.lower_bound(address);
  if (m != s->mappings.end() && m->first < address + bytes) return kInvalidValue;
  s->reservations.erase(it);
  line_locked(s, "cuMemAddressFree", bytes, address, "");
  return kOk;
}

int phantom_vmm_create(uint64_t* handle, uint64_t bytes, int handle_types, int location_type, const void* prop,
                       size_t prop_bytes) {
  State* s = st();
  phantom_activate();
  if (!bytes || bytes % kPage) return kInvalidValue;
  if (handle_types & 8) return kNotSupported;  // fabric handles: not on a GeForce
  std::lock_guard<std::mutex> l(s->mu);
  bool device = location_type == 1;
  if (device && !charge_locked(s, bytes)) {
    for (Pool* p : s->pools) pool_trim_locked(s, p, 0);
    if (!charge_locked(s, bytes)) {
      s->ooms++;
      line_locked(s, "oom", bytes, 0, "cuMemCreate");
      return kOom;
    }
  }
  Phys p{};
  p.size = device ? bytes : 0;
  p.handle_refs = 1;
  memcpy(p.prop, prop, prop_bytes < sizeof p.prop ? prop_bytes : sizeof p.prop);
  uint64_t h = s->next_handle++;
  s->phys[h] = p;
  line_locked(s, "cuMemCreate", bytes, h, "");
  *handle = h;
  return kOk;
}

int phantom_vmm_prop(uint64_t handle, void* prop, size_t prop_bytes) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  auto it = s->phys.find(handle);
  if (it == s->phys.end()) return kInvalidValue;
  memset(prop, 0, prop_bytes);
  memcpy(prop, it->second.prop, prop_bytes < sizeof it->second.prop ? prop_bytes : sizeof it->second.prop);
  return kOk;
}

int phantom_vmm_retain(uint64_t* handle, uint64_t address) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  auto m = s->mappings.upper_bound(address);
  if (m == s->mappings.begin()) return kInvalidValue;
  --m;
  if (address >= m->first + m->second.size) return kInvalidValue;
  s->phys[m->second.handle].handle_refs++;
  *handle = m->second.handle;
  return kOk;
}

int phantom_vmm_release(uint64_t handle) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  auto it = s->phys.find(handle);
  if (it == s->phys.end() || !it->second.handle_refs) return kInvalidValue;
  it->second.handle_refs--;
  line_locked(s, "cuMemRelease", it->second.size, handle, "");
  unphys_locked(s, handle);
  return kOk;
}

int phantom_vmm_map(uint64_t address, uint64_t bytes, uint64_t offset, uint64_t handle) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  auto it = s->phys.find(handle);
  if (it == s->phys.end() || offset || !bytes || bytes % kPage || address % kPage) return kInvalidValue;
  auto r = s->reservations.upper_bound(address);
  if (r == s->reservations.begin()) return kInvalidValue;
  --r;
  if (address + bytes > r->first + r->second.size) return kInvalidValue;
  auto m = s->mappings.upper_bound(address);
  if (m != s->mappings.end() && m->first < address + bytes) return kInvalidValue;
  if (m != s->mappings.begin()) {
    auto prev = std::prev(m);
    if (prev->first + prev->second.size > address) return kInvalidValue;
  }
  s->mappings[address] = Mapping{bytes, offset, handle};
  it->second.map_refs++;
  s->maps++;
  line_locked(s, "cuMemMap", bytes, address, "");
  return kOk;
}

int phantom_vmm_unmap(uint64_t address, uint64_t bytes) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  // The range must be made of whole mappings.
  uint64_t at = address;
  std::vector<uint64_t> gone;
  while (at < address + bytes) {
    auto m = s->mappings.lower_bound(at);
    if (m == s->mappings.end() || m->first >= address + bytes) break;
    if (m->first + m->second.size > address + bytes) return kInvalidValue;
    gone.push_back(m->first);
    at = m->first + m->second.size;
  }
  if (gone.empty()) return kInvalidValue;
  for (uint64_t a : gone) {
    auto m = s->mappings.find(a);
    uint64_t h = m->second.handle, size = m->second.size;
    s->mappings.erase(m);
    s->phys[h].map_refs--;
    line_locked(s, "cuMemUnmap", size, a, "");
    unphys_locked(s, h);
  }
  return kOk;
}
