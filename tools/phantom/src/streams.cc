// Phantom GPU: streams and events.
#include "state.h"

using namespace ph;

namespace ph {

void complete_locked(Stream* s, uint64_t upto, int depth) {
  if (s->completed.load() >= upto && s->deps.empty()) return;
  if (s->completed.load() < upto) s->completed.store(upto);
  std::vector<Dep> deps;
  deps.swap(s->deps);
  if (depth > 64) return;
  for (const Dep& d : deps) complete_locked(d.stream, d.seq, depth + 1);
}

void complete_all_locked(State* s) {
  auto one = [](Stream* x) {
    x->completed.store(x->issued.load());
    x->deps.clear();
  };
  one(&s->legacy);
  one(&s->per_thread);
  for (Stream* x : s->streams) one(x);
}

}  // namespace ph

Stream* phantom_stream(void* handle) {
  uintptr_t v = reinterpret_cast<uintptr_t>(handle);
  if (v <= 1) return &st()->legacy;
  if (v == 2) return &st()->per_thread;
  Stream* x = static_cast<Stream*>(handle);
  return x->magic == kStreamMagic ? x : nullptr;
}

int phantom_stream_create(void** out, unsigned flags, int priority) {
  State* s = st();
  phantom_activate();
  std::lock_guard<std::mutex> l(s->mu);
  Stream* x = new Stream{kStreamMagic};
  x->flags = flags;
  x->priority = priority < -5 ? -5 : priority > 0 ? 0 : priority;
  x->id = s->next_stream_id++;
  s->streams.insert(x);
  *out = x;
  return kOk;
}
int phantom_stream_destroy(void* handle) {
  State* s = st();
  Stream* x = phantom_stream(handle);
  if (!x || reinterpret_cast<uintptr_t>(handle) <= 2) return kInvalidHandle;
  std::lock_guard<std::mutex> l(s->mu);
  // The object stays, since events may still point at it.
  s->streams.erase(x);
  complete_locked(x, x->issued.load(), 0);
  x->magic = 0;
  return kOk;
}
int phantom_stream_query(void* handle) {
  State* s = st();
  Stream* x = phantom_stream(handle);
  if (!x) return kInvalidHandle;
  if (!s->cfg.lazy_events) return kOk;
  return x->completed.load() >= x->issued.load() ? kOk : kNotReady;
}
int phantom_stream_sync(void* handle) {
  State* s = st();
  phantom_activate();
  Stream* x = phantom_stream(handle);
  if (!x) return kInvalidHandle;
  if (x->capture.load()) return kCaptureUnsupported;
  std::lock_guard<std::mutex> l(s->mu);
  complete_locked(x, x->issued.load(), 0);
  pools_sync_locked(s);
  if (s->cfg.log_sync) line_locked(s, "cudaStreamSynchronize", 0, x->id, "");
  return kOk;
}
int phantom_device_sync() {
  State* s = st();
  phantom_activate();
  std::lock_guard<std::mutex> l(s->mu);
  complete_all_locked(s);
  pools_sync_locked(s);
  if (s->cfg.log_sync) line_locked(s, "cudaDeviceSynchronize", 0, 0, "");
  return kOk;
}
int phantom_stream_wait(void* handle, void* event) {
  State* s = st();
  Stream* x = phantom_stream(handle);
  Event* e = static_cast<Event*>(event);
  if (!x || !e || e->magic != kEventMagic) return kInvalidHandle;
  if (!e->recorded) return kOk;
  if (e->capture_id) {
    std::lock_guard<std::mutex> l(s->mu);
    auto it = s->captures.find(e->capture_id);
    if (it != s->captures.end() && !x->capture.load()) {
      it->second->members.push_back(x);
      x->capture.store(it->second);
    }
    return kOk;
  }
  if (s->cfg.lazy_events && e->stream && e->stream != x) {
    std::lock_guard<std::mutex> l(s->mu);
    for (Dep& d : x->deps)
      if (d.stream == e->stream) {
        if (d.seq < e->seq) d.seq = e->seq;
        return kOk;
      }
    x->deps.push_back(Dep{e->stream, e->seq});
  }
  return kOk;
}

int phantom_event_create(void** out, unsigned flags) {
  phantom_activate();
  Event* e = new Event{kEventMagic};
  e->flags = flags;
  *out = e;
  return kOk;
}
int phantom_event_destroy(void* event) {
  Event* e = static_cast<Event*>(event);
  if (!e || e->magic != kEventMagic) return kInvalidHandle;
  e->magic = 0;
  delete e;
  return kOk;
}
int phantom_event_record(void* event, void* stream) {
  Event* e = static_cast<Event*>(event);
  Stream* x = phantom_stream(stream);
  if (!x || !e || e->magic != kEventMagic) return kInvalidHandle;
  Capture* c = x->capture.load();
  e->capture_id = c ? c->id : 0;
  e->stream = x;
  e->recorded = true;
  e->ns = phantom_now_ns();
  e->seq = c ? x->completed.load() : x->issued.fetch_add(1) + 1;
  return kOk;
}
int phantom_event_query(void* event) {
  Event* e = static_cast<Event*>(event);
  if (!e || e->magic != kEventMagic) return kInvalidHandle;
  if (!e->recorded || !st()->cfg.lazy_events) return kOk;
  return e->stream->completed.load() >= e->seq ? kOk : kNotReady;
}
int phantom_event_sync(void* event) {
  State* s = st();
  Event* e = static_cast<Event*>(event);
  if (!e || e->magic != kEventMagic) return kInvalidHandle;
  if (!e->recorded) return kOk;
  std::lock_guard<std::mutex> l(s->mu);
  complete_locked(e->stream, e->seq, 0);
  pools_sync_locked(s);
  if (s->cfg.log_sync) line_locked(s, "cudaEventSynchronize", 0, e->stream->id, "");
  return kOk;
}
int phantom_event_elapsed(float* ms, void* a, void* b) {
  Event* x = static_cast<Event*>(a);
  Event* y = static_cast<Event*>(b);
  if (!x || !y || x->magic != kEventMagic || y->magic != kEventMagic) return kInvalidHandle;
  if (!x->recorded || !y->recorded) return kInvalidHandle;
  if ((x->flags | y->flags) & 2) return kInvalidHandle;  // timing disabled
  if (phantom_event_query(a) || phantom_event_query(b)) return kNotReady;
  double d = y->ns >= x->ns ? static_cast<double>(y->ns - x->ns) : -static_cast<double>(x->ns - y->ns);
  *ms = static_cast<float>(d * 1e-6);
  return kOk;
}
