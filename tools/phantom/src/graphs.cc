// Phantom GPU: stream capture and graphs.
#include "state.h"

using namespace ph;

namespace {

thread_local int t_capture_mode = 0;

}  // namespace

Graph* phantom_graph_create() { return new Graph{kGraphMagic, {}, {}}; }

int phantom_capture_begin(void* stream, void* graph, int mode) {
  State* s = st();
  Stream* x = phantom_stream(stream);
  if (!x) return kInvalidHandle;
  if (x == &s->legacy) return kCaptureUnsupported;
  if (x->capture.load()) return kCaptureUnsupported;
  std::lock_guard<std::mutex> l(s->mu);
  Capture* c = new Capture;
  c->id = s->next_capture_id++;
  c->graph = graph ? static_cast<Graph*>(graph) : phantom_graph_create();
  c->origin = x;
  c->mode = mode;
  c->members.push_back(x);
  s->captures[c->id] = c;
  x->capture.store(c);
  line_locked(s, "captureBegin", 0, c->id, "");
  return kOk;
}
int phantom_capture_end(void* stream, void** graph) {
  State* s = st();
  Stream* x = phantom_stream(stream);
  if (!x) return kInvalidHandle;
  std::lock_guard<std::mutex> l(s->mu);
  Capture* c = x->capture.load();
  if (!c) return kInvalidValue;
  if (c->origin != x) return kCaptureUnmatched;
  for (Stream* m : c->members) m->capture.store(nullptr);
  s->captures.erase(c->id);
  *graph = c->graph;
  line_locked(s, "captureEnd", c->graph->nodes.size(), c->id, "");
  delete c;
  return kOk;
}
int phantom_capture_info(void* stream, int* status, uint64_t* id, void** graph) {
  Stream* x = phantom_stream(stream);
  if (!x) return kInvalidHandle;
  Capture* c = x->capture.load();
  *status = c ? 1 : 0;
  if (id) *id = c ? c->id : 0;
  if (graph) *graph = c ? c->graph : nullptr;
  return kOk;
}
int phantom_capture_mode(int* mode) {
  int old = t_capture_mode;
  t_capture_mode = *mode;
  *mode = old;
  return kOk;
}
void phantom_capture_node(void* stream, int type) {
  Stream* x = phantom_stream(stream);
  if (!x || !x->capture.load(std::memory_order_relaxed)) return;
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  if (Capture* c = x->capture.load()) c->graph->nodes.push_back(new Node{kNodeMagic, type, c->graph});
}
int phantom_graph_destroy(void* graph) {
  Graph* g = static_cast<Graph*>(graph);
  if (!g || g->magic != kGraphMagic) return kInvalidValue;
  for (Node* n : g->nodes) delete n;
  for (UserObject* o : g->objects)
    if (--o->refs == 0) {
      if (o->destroy) o->destroy(o->data);
      delete o;
    }
  g->magic = 0;
  delete g;
  return kOk;
}
int phantom_graph_add(void* graph, int type, void** node) {
  Graph* g = static_cast<Graph*>(graph);
  if (!g || g->magic != kGraphMagic) return kInvalidValue;
  State* s = st();
  std::lock_guard<std::mutex> l(s->mu);
  Node* n = new Node{kNodeMagic, type, g};
  g->nodes.push_back(n);
  if (node) *node = n;
  return kOk;
}
int phantom_graph_instantiate(void** exec, void* graph, uint64_t flags) {
  Graph* g = static_cast<Graph*>(graph);
  if (!g || g->magic != kGraphMagic) return kInvalidValue;
  *exec = new GraphExec{kExecMagic, flags, g->nodes.size()};
  return kOk;
}
int phantom_graph_exec_destroy(void* exec) {
  GraphExec* e = static_cast<GraphExec*>(exec);
  if (!e || e->magic != kExecMagic) return kInvalidValue;
  e->magic = 0;
  delete e;
  return kOk;
}
int phantom_graph_launch(void* exec, void* stream) {
  GraphExec* e = static_cast<GraphExec*>(exec);
  if (!e || e->magic != kExecMagic) return kInvalidValue;
  g_graph_launches.fetch_add(1, std::memory_order_relaxed);
  if (g_log_kernels) phantom_log("graphLaunch", e->node_count, reinterpret_cast<uint64_t>(exec), "");
  phantom_capture_node(stream, 4);
  return kOk;
}
