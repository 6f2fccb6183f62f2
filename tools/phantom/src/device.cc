// Phantom GPU: launches, kernels, and the attributes of the device.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>

#include "state.h"

using namespace ph;

bool phantom_wants_kernel_names() {
  st();
  return g_log_kernels;
}

void phantom_launch(const void* stream, const Kernel* kernel, const void* func, const unsigned grid[3],
                    const unsigned block[3], size_t smem) {
  g_launches.fetch_add(1, std::memory_order_relaxed);
  uintptr_t v = reinterpret_cast<uintptr_t>(stream);
  if (__builtin_expect(v > 2, 0)) {
    const Stream* x = static_cast<const Stream*>(stream);
    if (x->magic == kStreamMagic && x->capture.load(std::memory_order_relaxed))
      phantom_capture_node(const_cast<void*>(stream), 0);
  }
  phantom_activate();
  if (__builtin_expect(g_log_kernels, 0)) {
    const char* name = kernel && kernel->name ? kernel->name : "?";
    int status = 0;
    char* plain = abi::__cxa_demangle(name, nullptr, nullptr, &status);
    char t[160];
    snprintf(t, sizeof t, " grid=%ux%ux%u block=%ux%ux%u smem=%zu stream=%llu", grid[0], grid[1], grid[2], block[0],
             block[1], block[2], smem, static_cast<unsigned long long>(phantom_stream(const_cast<void*>(stream))->id));
    std::string extra = (status == 0 && plain ? std::string(plain) : std::string(name)) + t;
    free(plain);
    phantom_log("launch", 0, reinterpret_cast<uint64_t>(func), extra.c_str());
  }
}

Kernel* phantom_kernel_new(const char* name, const void* module) {
  State* s = st();
  Kernel* k = new Kernel{kKernelMagic};
  k->name = name;
  k->module = module;
  std::lock_guard<std::mutex> l(s->mu);
  s->kernels.insert(k);
  return k;
}
bool phantom_is_kernel(const void* p) {
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  return s->kernels.count(p) != 0;
}

// --- the device

int phantom_attribute(int a, int* v) {
  const Config& c = st()->cfg;
  static const int table[] = {
      // attribute, value; the numbers are those of CUdevice_attribute (and of cudaDeviceAttr)
      1,   1024,  2,   1024,  3,   1024,       4,   64,         5,   2147483647, 6,   65535,     7,   65535, 8,   49152,
      9,   65536, 10,  32,    11,  2147483647, 12,  65536,      13,  2475000,    14,  512,       15,  1,     17,  0,
      18,  0,     19,  1,     20,  0,          21,  131072,     22,  131072,     23,  65536,     24,  16384, 25,  16384,
      26,  16384, 27,  32768, 28,  32768,      29,  2048,       30,  512,        31,  1,         32,  0,     33,  1,
      34,  0,     35,  0,     36,  10501000,   37,  192,        38,  37748736,   40,  2,         41,  1,     42,  32768,
      43,  2048,  44,  1,     45,  32768,      46,  32768,      47,  8192,       48,  8192,      49,  32768, 50,  0,
      51,  32,    52,  32768, 53,  32768,      54,  2046,       55,  32768,      56,  131072,    57,  65536, 58,  16384,
      59,  16384, 60,  16384, 61,  32768,      62,  2048,       63,  32768,      64,  32768,     65,  2048,  66,  32768,
      67,  32768, 68,  2046,  69,  268435456,  70,  131072,     71,  65000,      72,  2097120,   73,  32768, 74,  32768,
      77,  32768, 78,  1,     79,  1,          80,  1,          82,  65536,      83,  1,         84,  0,     85,  0,
      86,  0,     87,  64,    88,  0,          89,  1,          90,  1,          91,  1,         92,  1,     93,  1,
      94,  1,     95,  1,     96,  1,          98,  0,          99,  1,          100, 0,         101, 0,     102, 1,
      103, 1,     104, 0,     105, 0,          107, 0,          108, 25952256,   109, 134213632, 110, 0,     111, 1024,
      112, 1,     113, 1,     114, 1,          115, 1,          116, 0,          117, 0,         118, 0,     119, 1,
      120, 0,     121, 1,     122, 1,          123, 1,          124, 0,          125, 1,         126, 1,     127, 0,
      128, 0,     129, 1,     130, 0,          131, -1,         132, 0,          133, 0,         134, 0,     135, 0,
      136, 0,     137, 0,     138, 0,          139, 0x278610de, 140, 0x000010de, 141, 0,         142, 0,     143, 0,
      144, 0,     145, 0,     146, 0,          147, 0};
  // What differs by compute capability (CUDA programming guide, "Technical specifications per compute
  // capability"): resident threads and blocks of a multiprocessor, its shared memory, a block's share by opting in.
  struct PerCapability {
    int cc, threads, blocks, shared_kib, opt_in_kib;
  };
  static const PerCapability limits[] = {{70, 2048, 32, 96, 96},   {75, 1024, 16, 64, 64},    {80, 2048, 32, 164, 163},
                                         {86, 1536, 16, 100, 99},  {87, 1536, 16, 164, 163},  {89, 1536, 24, 100, 99},
                                         {90, 2048, 32, 228, 227}, {100, 2048, 32, 228, 227}, {103, 2048, 32, 228, 227},
                                         {120, 1536, 24, 100, 99}};
  const PerCapability* limit = nullptr;
  for (const PerCapability& l : limits)
    if (l.cc <= c.cc) limit = &l;
  if (!limit) limit = &limits[0];
  switch (a) {
    case 16:
      *v = c.sms;
      return kOk;
    case 75:
      *v = c.cc / 10;
      return kOk;
    case 76:
      *v = c.cc % 10;
      return kOk;
    case 39:
      *v = limit->threads;
      return kOk;
    case 106:
      *v = limit->blocks;
      return kOk;
    case 81:
      *v = limit->shared_kib * 1024;
      return kOk;
    case 97:
      *v = limit->opt_in_kib * 1024;
      return kOk;
    default:
      break;
  }
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i += 2)
    if (table[i] == a) {
      *v = table[i + 1];
      return kOk;
    }
  *v = 0;
  return kInvalidValue;
}
