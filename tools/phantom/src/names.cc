// Error names and texts, and the table of driver entry points.
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core.h"

struct PhantomProc {
  const char* name;
  int version;
  void (*fn)();
  void (*per_thread)();
};
extern const PhantomProc phantom_procs[];
extern const size_t phantom_proc_count;
struct PhantomErrorName {
  int code;
  const char* runtime;
  const char* driver;
};
extern const PhantomErrorName phantom_error_names[];
extern const size_t phantom_error_count;

void* phantom_get_proc(const char* name, int version, bool per_thread, int* status) {
  using Map = std::unordered_map<std::string, std::vector<const PhantomProc*>>;
  static const Map* map = [] {
    Map* m = new Map;
    for (size_t i = 0; i < phantom_proc_count; ++i) (*m)[phantom_procs[i].name].push_back(&phantom_procs[i]);
    return m;
  }();
  *status = 0;
  auto it = map->find(name ? name : "");
  if (it == map->end()) {
    *status = 1;  // not found
    return nullptr;
  }
  const PhantomProc* best = nullptr;
  for (const PhantomProc* p : it->second)
    if (p->version <= version && (!best || p->version > best->version)) best = p;
  if (!best) {
    *status = 2;  // the version isn't sufficient
    return nullptr;
  }
  return reinterpret_cast<void*>(per_thread ? best->per_thread : best->fn);
}

const char* phantom_error_name(int code, bool runtime) {
  for (size_t i = 0; i < phantom_error_count; ++i)
    if (phantom_error_names[i].code == code)
      return runtime ? phantom_error_names[i].runtime : phantom_error_names[i].driver;
  return nullptr;
}

const char* phantom_error_string(int code) {
  switch (code) {
    case 0:
      return "no error";
    case 1:
      return "invalid argument";
    case 2:
      return "out of memory";
    case 3:
      return "initialization error";
    case 4:
      return "driver shutting down";
    case 13:
      return "invalid device symbol";
    case 35:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case 46:
      return "all CUDA-capable devices are busy or unavailable";
    case 52:
      return "__global__ function call is not configured";
    case 98:
      return "invalid device function";
    case 100:
      return "no CUDA-capable device is detected";
    case 101:
      return "invalid device ordinal";
    case 200:
      return "device kernel image is invalid";
    case 201:
      return "invalid device context";
    case 209:
      return "no kernel image is available for execution on the device";
    case 400:
      return "invalid resource handle";
    case 500:
      return "named symbol not found";
    case 600:
      return "device not ready";
    case 700:
      return "an illegal memory access was encountered";
    case 701:
      return "too many resources requested for launch";
    case 712:
      return "part or all of the requested memory range is already mapped";
    case 713:
      return "pointer does not correspond to a registered memory region";
    case 719:
      return "unspecified launch failure";
    case 800:
      return "operation not permitted";
    case 801:
      return "operation not supported";
    case 900:
      return "operation not permitted when stream is capturing";
    case 901:
      return "operation failed due to a previous error during capture";
    case 903:
      return "capture was not initiated in this stream";
    case 999:
      return "unknown error";
    default:
      break;
  }
  const char* n = phantom_error_name(code, true);
  return n ? n : phantom_error_name(code, false);
}
