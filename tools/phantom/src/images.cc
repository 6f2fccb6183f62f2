// Which image of a fat binary the device would run. Libraries such as CUB branch on it
// (cudaFuncAttributes::ptxVersion), and it decides sizes of temporary storage.
//
// The layout was read off files that nvcc wrote: a 16-byte header (magic, version, header size,
// payload size), then entries of {u16 kind, u16 version, u32 header size, u64 payload size,
// u32 stored size, u32, u16 minor, u16 major, u32 arch, ..., u64 flags at 40}; kind 1 is PTX and
// kind 2 a cubin; flags 0x2000 and 0x8000 (zstd) say that the payload is compressed, its sizes being
// at 16 (stored) and 56 (original). A zstd payload is read if the machine has libzstd.so.1.
#include <dlfcn.h>
#include <elf.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "core.h"

using namespace ph;

namespace {
template <class T>
T get(const unsigned char* p, size_t at) {
  T v;
  memcpy(&v, p + at, sizeof v);
  return v;
}

const void* unzstd(const unsigned char* entry, uint32_t header) {
  using Decompress = size_t (*)(void*, size_t, const void*, size_t);
  static const Decompress decompress = [] {
    void* l = dlopen("libzstd.so.1", RTLD_LAZY | RTLD_LOCAL);
    return l ? reinterpret_cast<Decompress>(dlsym(l, "ZSTD_decompress")) : nullptr;
  }();
  if (!decompress || header < 64) return nullptr;
  const uint64_t original = get<uint64_t>(entry, 56);
  const uint32_t stored = get<uint32_t>(entry, 16);
  if (!original || original > (1ull << 32) || stored > get<uint64_t>(entry, 8)) return nullptr;
  void* out = malloc(original);
  if (out && decompress(out, original, entry + header, stored) == original) return out;
  free(out);
  return nullptr;
}
}  // namespace

bool phantom_elf_kernel(const void* elf, const char* kernel, int* regs, int* smem) {
  const unsigned char* p = static_cast<const unsigned char*>(elf);
  if (!p || memcmp(p, ELFMAG, SELFMAG) != 0 || p[EI_CLASS] != ELFCLASS64 || !kernel) return false;
  Elf64_Ehdr h;
  memcpy(&h, p, sizeof h);
  if (h.e_shentsize != sizeof(Elf64_Shdr) || !h.e_shoff || h.e_shstrndx >= h.e_shnum) return false;
  bool found = false;
  auto section = [&](unsigned i) {
    Elf64_Shdr s;
    memcpy(&s, p + h.e_shoff + static_cast<size_t>(i) * sizeof s, sizeof s);
    return s;
  };
  const char* names = reinterpret_cast<const char*>(p) + section(h.e_shstrndx).sh_offset;
  for (unsigned i = 0; i < h.e_shnum; ++i) {
    Elf64_Shdr s = section(i);
    const char* n = names + s.sh_name;
    if (strncmp(n, ".text.", 6) == 0 && strcmp(n + 6, kernel) == 0) {
      if (s.sh_info >> 24) *regs = static_cast<int>(s.sh_info >> 24);
      found = true;
    }
    if (strncmp(n, ".nv.shared.", 11) == 0 && strcmp(n + 11, kernel) == 0) *smem = static_cast<int>(s.sh_size);
  }
  return found;
}

void phantom_choose_image(const void* data, phantom_image* out) {
  *out = phantom_image{0, 0, nullptr};
  const unsigned char* p = static_cast<const unsigned char*>(data);
  if (!p) return;
  const int cc = phantom_config()->cc;
  if (get<uint32_t>(p, 0) == 0x466243b1) {  // the wrapper that nvcc puts around it
    const unsigned char* inner = get<const unsigned char*>(p, 8);
    if (!inner) return;
    p = inner;
  }
  if (memcmp(p, ELFMAG, SELFMAG) == 0) {
    int arch = static_cast<int>((get<uint32_t>(p, 48) >> 8) & 0xff);
    *out = phantom_image{arch ? arch : cc, arch ? arch : cc, p};
    return;
  }
  if (get<uint32_t>(p, 0) != 0xba55ed50) return;
  uint64_t at = get<uint16_t>(p, 6), end = at + get<uint64_t>(p, 8);
  int best_elf = 0, best_ptx = 0;
  const unsigned char* chosen = nullptr;
  while (at + 48 <= end) {
    const unsigned char* e = p + at;
    uint16_t kind = get<uint16_t>(e, 0);
    uint32_t header = get<uint32_t>(e, 4);
    uint64_t size = get<uint64_t>(e, 8);
    int arch = static_cast<int>(get<uint32_t>(e, 28));
    if (header < 32 || header > 4096 || size > end - at) break;
    if (kind == 2 && arch / 10 == cc / 10 && arch <= cc && arch > best_elf) {
      best_elf = arch;
      chosen = e;
    }
    if (kind == 1 && arch <= cc && arch > best_ptx) best_ptx = arch;
    at += header + size;
  }
  if (best_elf) {
    // Decompressed once for each fat binary.
    static std::mutex mu;
    static auto* cache = new std::unordered_map<const void*, const void*>;
    std::lock_guard<std::mutex> l(mu);
    auto it = cache->find(chosen);
    if (it == cache->end()) {
      const uint32_t header = get<uint32_t>(chosen, 4);
      const uint64_t flags = get<uint64_t>(chosen, 40);
      const void* elf = flags & 0x8000 ? unzstd(chosen, header) : flags & 0x2000 ? nullptr : chosen + header;
      it = cache->emplace(chosen, elf).first;
    }
    *out = phantom_image{best_elf, best_elf, it->second};
  } else if (best_ptx)
    *out = phantom_image{cc, best_ptx, nullptr};  // as compiled by the driver
}

void phantom_kernel_resolve(Kernel* k, const void* data) {
  if (k->arch) return;
  phantom_image i;
  phantom_choose_image(data, &i);
  const int cc = phantom_config()->cc;
  k->ptx = i.ptx ? i.ptx : cc;
  if (i.elf) phantom_elf_kernel(i.elf, k->name, &k->regs, &k->static_smem);
  k->arch = i.arch ? i.arch : cc;
}
