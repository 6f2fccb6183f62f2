// Phantom GPU: state shared by the driver, runtime, BLAS and NVML stand-ins.
// Everything here lives in libcuda.so.1; the other libraries link against it.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#define PH_API extern "C" __attribute__((visibility("default")))

namespace ph {

constexpr uint64_t KiB = 1024, MiB = 1024 * KiB, GiB = 1024 * MiB;
constexpr uint64_t kPage = 2 * MiB;    // granularity of physical memory
constexpr uint64_t kBig = 1 * MiB;     // a cudaMalloc from here on has pages of its own
constexpr uint64_t kSmallAlign = 512;  // alignment of smaller ones, inside a shared page

// The error numbers that CUresult and cudaError_t have in common.
enum Err : int {
  kOk = 0,
  kInvalidValue = 1,
  kOom = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidContext = 201,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kHostAlreadyRegistered = 712,
  kHostNotRegistered = 713,
  kNotPermitted = 800,
  kNotSupported = 801,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
  kCaptureUnmatched = 903,
};

struct Capture;
struct Stream;

struct Dep {
  Stream* stream;
  uint64_t seq;
};

struct Stream {
  uint32_t magic;
  uint32_t flags = 0;
  int priority = 0;
  uint64_t id = 0;
  std::atomic<uint64_t> issued{0};     // number of event records so far
  std::atomic<uint64_t> completed{0};  // the newest record known to be complete
  std::atomic<Capture*> capture{nullptr};
  std::vector<Dep> deps{};  // event waits, for PHANTOM_EVENTS=lazy
};

struct Event {
  uint32_t magic;
  uint32_t flags = 0;
  Stream* stream = nullptr;
  uint64_t seq = 0;
  uint64_t ns = 0;
  uint64_t capture_id = 0;
  bool recorded = false;
};

struct Graph;
struct Node {
  uint32_t magic;
  int type = 0;  // as cudaGraphNodeType
  Graph* graph = nullptr;
};
struct UserObject {
  uint32_t magic;
  void (*destroy)(void*);
  void* data;
  int refs;
};
struct Graph {
  uint32_t magic;
  std::vector<Node*> nodes;
  std::vector<UserObject*> objects;
};
struct GraphExec {
  uint32_t magic;
  uint64_t flags = 0;
  uint64_t node_count = 0;
};
struct Capture {
  uint64_t id = 0;
  Graph* graph = nullptr;
  Stream* origin = nullptr;
  int mode = 0;
  std::vector<Stream*> members{};
};

struct Kernel {
  uint32_t magic;
  const char* name = nullptr;
  const void* host_fun = nullptr;
  const void* module = nullptr;  // runtime: the fat binary; driver: the module or library
  int max_dynamic_smem = 49152;
  int carveout = -1;
  int cache_config = 0;
  int cluster[3] = {0, 0, 0};
  int non_portable_cluster = 0;
  int regs = 32;
  int static_smem = 0;
  int arch = 0, ptx = 0;  // of the image the device would choose; 0 while unknown
};

constexpr uint32_t kStreamMagic = 0x5053544d, kEventMagic = 0x50455654, kGraphMagic = 0x50475248,
                   kNodeMagic = 0x504e4f44, kExecMagic = 0x50455845, kKernelMagic = 0x504b524e, kPoolMagic = 0x50504f4c,
                   kModuleMagic = 0x504d4f44, kObjectMagic = 0x504f424a, kLibMagic = 0x504c4942;

enum PtrKind : int {
  kUnknown = 0,
  kDeviceMalloc = 1,  // cudaMalloc, own pages
  kDeviceSmall = 2,   // cudaMalloc, in a shared page
  kDevicePool = 3,    // stream-ordered
  kDeviceVmm = 4,     // mapped virtual memory
  kDeviceStatic = 5,  // a __device__ variable
  kHostPinned = 6,
  kHostRegistered = 7,
  kManaged = 8,
};

struct PtrInfo {
  int kind = kUnknown;
  uint64_t base = 0;  // of the allocation; of the reservation for mapped memory
  uint64_t size = 0;
  uint64_t ordinal = 0;  // order of creation, over all allocations and reservations
  uint64_t map_base = 0, map_size = 0;
  unsigned flags = 0;
};

struct Config {
  uint64_t total, context, pool_chunk, va;
  int cc, sms;
  bool lazy_events, falling, log_kernels, log_sync, quiet, trace, visible;
  uint64_t cublas_handle, lt_workspace;
  char name[256];
};

struct MemInfo {
  uint64_t total, free, used, peak, capacity;
};

struct StubCounter {
  const char* name;
  std::atomic<uint64_t> hits;
  StubCounter* next;
};

}  // namespace ph

// --- process state
PH_API int phantom_init();       // reads the environment once; kNoDevice when hidden, 3 in a forked child
PH_API void phantom_activate();  // the primary context exists from now on
PH_API int phantom_active();
PH_API const ph::Config* phantom_config();
PH_API int phantom_attribute(int attr, int* value);
// The same for an attribute that exists.
inline int phantom_limit(int attr) {
  int value = 0;
  phantom_attribute(attr, &value);
  return value;
}
PH_API int phantom_stub_hit(ph::StubCounter* c);
PH_API void phantom_log(const char* op, uint64_t bytes, uint64_t address, const char* extra);
PH_API void phantom_warn(const char* text);
PH_API uint64_t phantom_now_ns();
PH_API void* phantom_get_proc(const char* name, int version, bool per_thread, int* status);
PH_API const char* phantom_error_name(int code, bool runtime);
PH_API const char* phantom_error_string(int code);

// --- memory
PH_API int phantom_malloc(uint64_t* out, uint64_t bytes, const char* op);
PH_API int phantom_free(uint64_t address, const char* op);
PH_API int phantom_static_address(uint64_t* out, uint64_t bytes);
PH_API int phantom_host_alloc(void** out, uint64_t bytes, unsigned flags, int kind, const char* op);
PH_API int phantom_host_free(void* p, const char* op);
PH_API int phantom_host_register(void* p, uint64_t bytes, unsigned flags);
PH_API int phantom_host_unregister(void* p);
PH_API int phantom_pointer(uint64_t address, ph::PtrInfo* info);
PH_API bool phantom_is_device(uint64_t address);
PH_API void phantom_mem_info(ph::MemInfo* m);
PH_API void phantom_copy(void* dst, const void* src, uint64_t bytes);
PH_API void phantom_copy_2d(void* dst, uint64_t dpitch, const void* src, uint64_t spitch, uint64_t w, uint64_t h);
PH_API void phantom_set(void* dst, int value, uint64_t bytes);

// --- virtual memory management
PH_API int phantom_vmm_reserve(uint64_t* out, uint64_t bytes, uint64_t align);
PH_API int phantom_vmm_unreserve(uint64_t address, uint64_t bytes);
PH_API int phantom_vmm_create(uint64_t* handle, uint64_t bytes, int handle_types, int location_type, const void* prop,
                              size_t prop_bytes);
PH_API int phantom_vmm_retain(uint64_t* handle, uint64_t address);
PH_API int phantom_vmm_release(uint64_t handle);
PH_API int phantom_vmm_map(uint64_t address, uint64_t bytes, uint64_t offset, uint64_t handle);
PH_API int phantom_vmm_unmap(uint64_t address, uint64_t bytes);
PH_API int phantom_vmm_prop(uint64_t handle, void* prop, size_t prop_bytes);

// --- stream-ordered pools
PH_API void* phantom_pool_default();
PH_API void* phantom_pool_current();
PH_API int phantom_pool_set_current(void* pool);
PH_API int phantom_pool_create(void** pool, uint64_t max_size);
PH_API int phantom_pool_destroy(void* pool);
PH_API int phantom_pool_alloc(uint64_t* out, uint64_t bytes, void* pool);
PH_API int phantom_pool_get(void* pool, int attr, void* value);
PH_API int phantom_pool_set(void* pool, int attr, const void* value);
PH_API int phantom_pool_trim(void* pool, uint64_t keep);

// --- streams and events
PH_API ph::Stream* phantom_stream(void* handle);  // resolves 0, 1 and 2; null if invalid
PH_API int phantom_stream_create(void** out, unsigned flags, int priority);
PH_API int phantom_stream_destroy(void* handle);
PH_API int phantom_stream_query(void* handle);
PH_API int phantom_stream_sync(void* handle);
PH_API int phantom_stream_wait(void* handle, void* event);
PH_API int phantom_device_sync();
PH_API int phantom_event_create(void** out, unsigned flags);
PH_API int phantom_event_destroy(void* event);
PH_API int phantom_event_record(void* event, void* stream);
PH_API int phantom_event_query(void* event);
PH_API int phantom_event_sync(void* event);
PH_API int phantom_event_elapsed(float* ms, void* a, void* b);

// --- capture and graphs
PH_API int phantom_capture_begin(void* stream, void* graph, int mode);
PH_API int phantom_capture_end(void* stream, void** graph);
PH_API int phantom_capture_info(void* stream, int* status, uint64_t* id, void** graph);
PH_API int phantom_capture_mode(int* mode);
PH_API void phantom_capture_node(void* stream, int type);
PH_API ph::Graph* phantom_graph_create();
PH_API int phantom_graph_destroy(void* graph);
PH_API int phantom_graph_add(void* graph, int type, void** node);
PH_API int phantom_graph_instantiate(void** exec, void* graph, uint64_t flags);
PH_API int phantom_graph_exec_destroy(void* exec);
PH_API int phantom_graph_launch(void* exec, void* stream);

// --- kernels
PH_API void phantom_launch(const void* stream, const ph::Kernel* kernel, const void* func, const unsigned grid[3],
                           const unsigned block[3], size_t smem);
PH_API bool phantom_wants_kernel_names();
// Blocks of a kernel that fit on a multiprocessor (null: one of 32 registers).
PH_API int phantom_occupancy(const ph::Kernel* k, int block, size_t dynamic_smem);
PH_API ph::Kernel* phantom_kernel_new(const char* name, const void* module);
PH_API bool phantom_is_kernel(const void* p);
// Registers and static shared memory of a kernel in a cubin (an ELF image).
PH_API bool phantom_elf_kernel(const void* elf, const char* kernel, int* regs, int* smem);
// What this device would choose from a fat binary or a cubin.
struct phantom_image {
  int arch, ptx;    // as cudaFuncAttributes: 86 and so on; 0 if nothing was recognised
  const void* elf;  // the chosen cubin, decompressed if need be and possible
};
PH_API void phantom_choose_image(const void* data, struct phantom_image* out);
PH_API void phantom_kernel_resolve(ph::Kernel* k, const void* data);

// What an instrument may ask about an address; ordinal counts allocations and reservations.
PH_API int phantom_query_address(uint64_t address, uint64_t* base, uint64_t* size, uint64_t* ordinal, int* kind);
PH_API void phantom_counters(uint64_t out[8]);
PH_API void phantom_reset_peak();
