// Phantom GPU: the part of NVML that PyTorch and monitoring scripts ask. No NVML header is
// needed; the structures are those of its public documentation.
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "core.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7 };
struct Device {
  int index;
} g_device{0};
struct MemoryV1 {
  unsigned long long total, free, used;
};
struct MemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
struct ProcessV1 {
  unsigned pid;
  unsigned long long used;
};
struct ProcessV2 {
  unsigned pid;
  unsigned long long used;
  unsigned gpu_instance, compute_instance;
};
struct Pci {
  char legacy[16];
  unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
  char bus_id[32];
};
struct Utilization {
  unsigned gpu, memory;
};
int text(char* out, unsigned n, const char* s) {
  if (strlen(s) + 1 > n) return SMALL;
  strcpy(out, s);
  return OK;
}
template <class P>
int processes(unsigned* n, P* out) {
  if (!phantom_active()) {
    *n = 0;
    return OK;
  }
  unsigned have = *n;
  *n = 1;
  if (!out || have < 1) return SMALL;
  memset(out, 0, sizeof *out);
  ph::MemInfo m;
  phantom_mem_info(&m);
  out->pid = static_cast<unsigned>(getpid());
  out->used = m.used + phantom_config()->context;
  return OK;
}
void pci(Pci* p) {
  memset(p, 0, sizeof *p);
  snprintf(p->legacy, sizeof p->legacy, "0000:01:00.0");
  snprintf(p->bus_id, sizeof p->bus_id, "00000000:01:00.0");
  p->bus = 1;
  p->pci_device_id = 0x278610de;
}
}  // namespace

EXPORT int nvmlInit_v2() { return phantom_init() ? 9 : OK; }
EXPORT int nvmlInit() { return nvmlInit_v2(); }
EXPORT int nvmlInitWithFlags(unsigned) { return nvmlInit_v2(); }
EXPORT int nvmlShutdown() { return OK; }
EXPORT const char* nvmlErrorString(int e) {
  switch (e) {
    case OK:
      return "Success";
    case INVALID:
      return "Invalid Argument";
    case NOT_SUPPORTED:
      return "Not Supported";
    case NOT_FOUND:
      return "Not Found";
    case SMALL:
      return "Insufficient Size";
    default:
      return "Unknown Error";
  }
}
EXPORT int nvmlSystemGetDriverVersion(char* s, unsigned n) { return text(s, n, "580.65.06"); }
EXPORT int nvmlSystemGetNVMLVersion(char* s, unsigned n) { return text(s, n, "13.580.65.06"); }
EXPORT int nvmlSystemGetCudaDriverVersion(int* v) {
  *v = 13000;
  return OK;
}
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int* v) {
  *v = 13000;
  return OK;
}
EXPORT int nvmlDeviceGetCount_v2(unsigned* n) {
  *n = 1;
  return OK;
}
EXPORT int nvmlDeviceGetCount(unsigned* n) { return nvmlDeviceGetCount_v2(n); }
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned i, void** d) {
  if (i) return INVALID;
  *d = &g_device;
  return OK;
}
EXPORT int nvmlDeviceGetHandleByIndex(unsigned i, void** d) { return nvmlDeviceGetHandleByIndex_v2(i, d); }
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char*, void** d) {
  *d = &g_device;
  return OK;
}
EXPORT int nvmlDeviceGetHandleByPciBusId(const char* s, void** d) { return nvmlDeviceGetHandleByPciBusId_v2(s, d); }
EXPORT int nvmlDeviceGetHandleByUUID(const char*, void** d) {
  *d = &g_device;
  return OK;
}
EXPORT int nvmlDeviceGetName(void*, char* s, unsigned n) { return text(s, n, phantom_config()->name); }
EXPORT int nvmlDeviceGetUUID(void*, char* s, unsigned n) {
  return text(s, n, "GPU-5048414e-544f-4d00-4070-000000000001");
}
EXPORT int nvmlDeviceGetIndex(void*, unsigned* i) {
  *i = 0;
  return OK;
}
EXPORT int nvmlDeviceGetMinorNumber(void*, unsigned* i) {
  *i = 0;
  return OK;
}
EXPORT int nvmlDeviceGetCudaComputeCapability(void*, int* major, int* minor) {
  phantom_attribute(75, major);
  phantom_attribute(76, minor);
  return OK;
}
EXPORT int nvmlDeviceGetMemoryInfo(void*, MemoryV1* m) {
  ph::MemInfo i;
  phantom_mem_info(&i);
  *m = MemoryV1{i.total, i.free, i.total - i.free};
  return OK;
}
EXPORT int nvmlDeviceGetMemoryInfo_v2(void*, MemoryV2* m) {
  ph::MemInfo i;
  phantom_mem_info(&i);
  m->total = i.total;
  m->reserved = 0;
  m->free = i.free;
  m->used = i.total - i.free;
  return OK;
}
EXPORT int nvmlDeviceGetComputeRunningProcesses(void*, unsigned* n, ProcessV1* p) { return processes(n, p); }
EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(void*, unsigned* n, ProcessV2* p) { return processes(n, p); }
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void*, unsigned* n, ProcessV2* p) { return processes(n, p); }
EXPORT int nvmlDeviceGetGraphicsRunningProcesses(void*, unsigned* n, ProcessV1*) {
  *n = 0;
  return OK;
}
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v2(void*, unsigned* n, ProcessV2*) {
  *n = 0;
  return OK;
}
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(void*, unsigned* n, ProcessV2*) {
  *n = 0;
  return OK;
}
EXPORT int nvmlDeviceGetPciInfo_v3(void*, Pci* p) {
  pci(p);
  return OK;
}
EXPORT int nvmlDeviceGetPciInfo_v2(void*, Pci* p) {
  pci(p);
  return OK;
}
EXPORT int nvmlDeviceGetUtilizationRates(void*, Utilization* u) {
  *u = Utilization{0, 0};
  return OK;
}
EXPORT int nvmlDeviceGetTemperature(void*, int, unsigned* t) {
  *t = 40;
  return OK;
}
EXPORT int nvmlDeviceGetPowerUsage(void*, unsigned* p) {
  *p = 30000;
  return OK;
}
EXPORT int nvmlDeviceGetClockInfo(void*, int, unsigned* c) {
  *c = 2475;
  return OK;
}
EXPORT int nvmlDeviceGetNvLinkState(void*, unsigned, int*) { return NOT_SUPPORTED; }
EXPORT int nvmlDeviceGetNvLinkRemoteDeviceType(void*, unsigned, int*) { return NOT_SUPPORTED; }
EXPORT int nvmlDeviceGetNvLinkRemotePciInfo_v2(void*, unsigned, Pci*) { return NOT_SUPPORTED; }
EXPORT int nvmlDeviceGetNvLinkRemotePciInfo(void*, unsigned, Pci*) { return NOT_SUPPORTED; }
EXPORT int nvmlDeviceGetGpuFabricInfo(void*, void*) { return NOT_SUPPORTED; }
EXPORT int nvmlDeviceGetGpuFabricInfoV(void*, void*) { return NOT_SUPPORTED; }
