// Phantom GPU: configuration, event log, what happens at a fork and at the end of the process.
#include "state.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace ph;

namespace ph {

alignas(64) std::atomic<uint64_t> g_launches{0};
alignas(64) std::atomic<uint64_t> g_graph_launches{0};
bool g_log_kernels = false;

}  // namespace ph

namespace {

State* g_state = nullptr;
pthread_once_t g_once = PTHREAD_ONCE_INIT;

uint64_t env_u64(const char* name, uint64_t fallback) {
  const char* s = getenv(name);
  if (!s || !*s) return fallback;
  char* end = nullptr;
  unsigned long long v = strtoull(s, &end, 0);
  return end && *end == 0 ? v : fallback;
}
bool env_flag(const char* name, bool fallback) {
  const char* s = getenv(name);
  if (!s || !*s) return fallback;
  return strcmp(s, "0") != 0;
}

void flush_locked(State* s) {
  if (s->fd < 0) {
    s->buf.clear();
    return;
  }
  size_t at = 0;
  while (at < s->buf.size()) {
    ssize_t n = write(s->fd, s->buf.data() + at, s->buf.size() - at);
    if (n <= 0) {
      if (n < 0 && errno == EINTR) continue;
      break;
    }
    at += static_cast<size_t>(n);
  }
  s->buf.clear();
}

void before_fork() {
  if (g_state) g_state->mu.lock();
}
void after_fork_parent() {
  if (g_state) g_state->mu.unlock();
}
void after_fork_child() {
  State* s = g_state;
  if (!s) return;
  // As with CUDA, a context doesn't survive a fork. Nothing of the parent's log may be written twice.
  if (s->active.load()) s->forked = true;
  s->buf.clear();
  if (s->fd >= 0) close(s->fd);
  s->fd = -1;
  s->mu.unlock();
}

void open_log(State* s) {
  const char* path = getenv("PHANTOM_LOG");
  if (!path || !*path) return;
  std::string p;
  for (const char* c = path; *c; ++c) {
    if (c[0] == '%' && c[1] == 'p') {
      p += std::to_string(getpid());
      ++c;
    } else {
      p += *c;
    }
  }
  // A process that this one started may use the device too; it must not write over this log.
  for (int attempt = 0; attempt < 2; ++attempt) {
    s->fd = open(p.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (s->fd < 0) {
      fprintf(stderr, "phantom: cannot write the log %s: %s\n", p.c_str(), strerror(errno));
      return;
    }
    if (flock(s->fd, LOCK_EX | LOCK_NB) == 0 || attempt) break;
    close(s->fd);
    p += "." + std::to_string(getpid());
  }
  if (ftruncate(s->fd, 0)) {
  }  // a pipe or a terminal can't be, and needn't
  s->buf = "seq,seconds,op,bytes,address,total,peak,extra\n";
}

void reserve_va(State* s) {
  const uint64_t wanted = s->cfg.va;
  const uint64_t hint = 0x200000000000ull;
  for (uint64_t size = wanted; size >= 64 * GiB; size /= 2) {
    void* p = mmap(reinterpret_cast<void*>(hint), size, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (p != reinterpret_cast<void*>(hint)) {
      if (p != MAP_FAILED) munmap(p, size);
      p = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    if (p == MAP_FAILED) continue;
    s->va_base = reinterpret_cast<uint64_t>(p);
    s->va_end = s->va_base + size;
    break;
  }
  if (!s->va_base) {
    fprintf(stderr, "phantom: cannot reserve device addresses (%s)\n", strerror(errno));
    abort();
  }
  // A strip at the start for __device__ variables; then cudaMalloc and pools; then VMM.
  s->static_base = round_up(s->va_base, kPage);
  s->static_next = s->static_base;
  s->static_end = s->static_base + 4 * GiB;
  s->next = s->static_end;
  s->vmm_start = round_up(s->va_base + (s->va_end - s->va_base) / 2, kPage);
  s->vmm_next = s->top = s->vmm_start;
}

void init_once() {
  State* s = new State;
  Config& c = s->cfg;
  c.total = env_u64("PHANTOM_MEMORY_MIB", 12282) * MiB;
  c.context = env_u64("PHANTOM_CONTEXT_MIB", 0) * MiB;
  c.pool_chunk = round_up(env_u64("PHANTOM_POOL_CHUNK_MIB", 32) * MiB, kPage);
  if (!c.pool_chunk) c.pool_chunk = kPage;
  c.va = env_u64("PHANTOM_VA_GIB", 8192) * GiB;
  c.sms = static_cast<int>(env_u64("PHANTOM_SM_COUNT", 46));
  c.cc = static_cast<int>(env_u64("PHANTOM_CC", 89));
  const char* ev = getenv("PHANTOM_EVENTS");
  c.lazy_events = ev && strcmp(ev, "lazy") == 0;
  const char* order = getenv("PHANTOM_ADDRESSES");
  c.falling = order && strcmp(order, "falling") == 0;
  c.log_kernels = env_flag("PHANTOM_LOG_KERNELS", false);
  c.log_sync = env_flag("PHANTOM_LOG_SYNC", false);
  c.quiet = env_flag("PHANTOM_QUIET", false);
  c.trace = env_flag("PHANTOM_TRACE", false);
  c.cublas_handle = env_u64("PHANTOM_CUBLAS_HANDLE_MIB", 0) * MiB;
  c.lt_workspace = env_u64("PHANTOM_LT_WORKSPACE", 0);
  const char* name = getenv("PHANTOM_DEVICE_NAME");
  snprintf(c.name, sizeof c.name, "%s", name && *name ? name : "NVIDIA GeForce RTX 4070");
  // CUDA_VISIBLE_DEVICES: the first entry decides, as only device 0 exists.
  c.visible = true;
  if (const char* v = getenv("CUDA_VISIBLE_DEVICES")) {
    c.visible = v[0] == '0' || strncmp(v, "GPU-", 4) == 0;
  }
  s->start_ns = phantom_now_ns();
  s->pid = getpid();
  s->flush_each = env_flag("PHANTOM_LOG_FLUSH", false);
  s->legacy.id = 1;
  s->per_thread.id = 2;
  reserve_va(s);
  s->default_pool = s->current_pool = new Pool;
  s->pools.insert(s->default_pool);
  pthread_atfork(before_fork, after_fork_parent, after_fork_child);
  __atomic_store_n(&g_state, s, __ATOMIC_RELEASE);
}

__attribute__((destructor)) void at_exit() {
  State* s = g_state;
  if (!s || s->forked || s->pid != getpid()) return;
  std::lock_guard<std::mutex> l(s->mu);
  if (s->active.load()) {
    char t[512];
    snprintf(t, sizeof t,
             "peak_bytes=%llu end_bytes=%llu mallocs=%llu frees=%llu maps=%llu pool_allocs=%llu "
             "ooms=%llu launches=%llu graph_launches=%llu",
             static_cast<unsigned long long>(s->peak), static_cast<unsigned long long>(s->used),
             static_cast<unsigned long long>(s->mallocs), static_cast<unsigned long long>(s->frees),
             static_cast<unsigned long long>(s->maps), static_cast<unsigned long long>(s->pool_allocs),
             static_cast<unsigned long long>(s->ooms), static_cast<unsigned long long>(g_launches.load()),
             static_cast<unsigned long long>(g_graph_launches.load()));
    for (StubCounter* c = s->stubs.load(); c; c = c->next) line_locked(s, "stub", c->hits.load(), 0, c->name);
    line_locked(s, "summary", s->peak, 0, t);
    if (!s->cfg.quiet) {
      fprintf(stderr, "phantom: %s\n", t);
      if (s->cfg.trace)
        for (StubCounter* c = s->stubs.load(); c; c = c->next)
          fprintf(stderr, "phantom: default stub %s called %llu times\n", c->name,
                  static_cast<unsigned long long>(c->hits.load()));
    }
  }
  flush_locked(s);
}

}  // namespace

namespace ph {

void line_locked(State* s, const char* op, uint64_t bytes, uint64_t address, const char* extra) {
  if (s->fd < 0) return;
  char t[192];
  int n = snprintf(t, sizeof t, "%llu,%.6f,", static_cast<unsigned long long>(s->seq++),
                   static_cast<double>(phantom_now_ns() - s->start_ns) * 1e-9);
  s->buf.append(t, static_cast<size_t>(n));
  s->buf += op;
  n = snprintf(t, sizeof t, ",%llu,0x%llx,%llu,%llu,", static_cast<unsigned long long>(bytes),
               static_cast<unsigned long long>(address), static_cast<unsigned long long>(s->used),
               static_cast<unsigned long long>(s->peak));
  s->buf.append(t, static_cast<size_t>(n));
  if (extra && *extra) {
    bool quote = strpbrk(extra, ",\"\n") != nullptr;
    if (quote) s->buf += '"';
    for (const char* p = extra; *p; ++p) {
      if (*p == '"') s->buf += '"';
      s->buf += *p;
    }
    if (quote) s->buf += '"';
  }
  s->buf += '\n';
  if (s->flush_each || s->buf.size() > (1u << 20)) flush_locked(s);
}

State* st() {
  State* s = __atomic_load_n(&g_state, __ATOMIC_ACQUIRE);
  if (__builtin_expect(s != nullptr, 1)) return s;
  pthread_once(&g_once, init_once);
  return g_state;
}

}  // namespace ph

// --- process state

int phantom_init() {
  State* s = st();
  if (s->forked) return kNotInitialized;
  return s->cfg.visible ? kOk : kNoDevice;
}
void phantom_activate() {
  State* s = st();
  if (__builtin_expect(s->active.load(std::memory_order_relaxed), 1)) return;
  std::lock_guard<std::mutex> l(s->mu);
  if (s->active.load()) return;
  open_log(s);
  g_log_kernels = s->cfg.log_kernels && s->fd >= 0;
  char t[96];
  snprintf(t, sizeof t, "memory_mib=%llu context_mib=%llu", static_cast<unsigned long long>(s->cfg.total / MiB),
           static_cast<unsigned long long>(s->cfg.context / MiB));
  line_locked(s, "context", s->cfg.context, 0, t);
  s->active.store(true);
}
int phantom_active() { return st()->active.load(); }
const Config* phantom_config() { return &st()->cfg; }

uint64_t phantom_now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000ull + static_cast<uint64_t>(t.tv_nsec);
}

int phantom_stub_hit(StubCounter* c) {
  if (__builtin_expect(g_log_kernels, 0) && strncmp(c->name, "cublas", 6) == 0) phantom_log("cublas", 0, 0, c->name);
  if (c->hits.fetch_add(1, std::memory_order_relaxed) == 0) {
    State* s = st();
    StubCounter* head = s->stubs.load();
    do c->next = head;
    while (!s->stubs.compare_exchange_weak(head, c));
    if (s->cfg.trace) fprintf(stderr, "phantom: first call of the default stub %s\n", c->name);
  }
  return 0;
}

void phantom_log(const char* op, uint64_t bytes, uint64_t address, const char* extra) {
  State* s = st();
  if (s->fd < 0) return;
  std::lock_guard<std::mutex> l(s->mu);
  line_locked(s, op, bytes, address, extra);
}

void phantom_warn(const char* text) {
  if (!st()->cfg.quiet) fprintf(stderr, "phantom: %s\n", text);
}
