// Phantom GPU: the runtime API: streams, events, capture, graphs.
#include <cstring>

#include "cudart.h"

using namespace ph;

// --- streams and events

EXPORT cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned flags, int priority) {
  if (cudaError_t e = ready()) return e;
  return done(phantom_stream_create(reinterpret_cast<void**>(s), flags, priority));
}
EXPORT cudaError_t cudaStreamCreate(cudaStream_t* s) { return cudaStreamCreateWithPriority(s, 0, 0); }
EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned f) {
  return cudaStreamCreateWithPriority(s, f, 0);
}
EXPORT cudaError_t cudaStreamDestroy(cudaStream_t s) { return done(phantom_stream_destroy(s)); }
EXPORT cudaError_t cudaStreamQuery(cudaStream_t s) { return done(phantom_stream_query(s)); }
EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t s) { return done(phantom_stream_sync(s)); }
EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  return done(phantom_stream_wait(s, e));
}
EXPORT cudaError_t cudaStreamGetPriority(cudaStream_t s, int* p) {
  Stream* x = phantom_stream(s);
  if (!x) return done(kInvalidHandle);
  *p = x->priority;
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamGetFlags(cudaStream_t s, unsigned* f) {
  Stream* x = phantom_stream(s);
  if (!x) return done(kInvalidHandle);
  *f = x->flags;
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamGetId(cudaStream_t s, unsigned long long* id) {
  Stream* x = phantom_stream(s);
  if (!x) return done(kInvalidHandle);
  *id = x->id;
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamGetDevice(cudaStream_t, int* d) {
  *d = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaStreamGetAttribute(cudaStream_t, cudaStreamAttrID, cudaStreamAttrValue* v) {
  memset(v, 0, sizeof *v);
  return cudaSuccess;
}
EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned f) {
  if (cudaError_t r = ready()) return r;
  return done(phantom_event_create(reinterpret_cast<void**>(e), f));
}
EXPORT cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
EXPORT cudaError_t cudaEventDestroy(cudaEvent_t e) { return done(phantom_event_destroy(e)); }
EXPORT cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) { return done(phantom_event_record(e, s)); }
EXPORT cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned) {
  return done(phantom_event_record(e, s));
}
EXPORT cudaError_t cudaEventQuery(cudaEvent_t e) { return done(phantom_event_query(e)); }
EXPORT cudaError_t cudaEventSynchronize(cudaEvent_t e) { return done(phantom_event_sync(e)); }
EXPORT cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
  return done(phantom_event_elapsed(ms, a, b));
}

// --- capture and graphs

EXPORT cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode m) {
  return done(phantom_capture_begin(s, nullptr, m));
}
EXPORT cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t s, cudaGraph_t g, const cudaGraphNode_t*,
                                                 const cudaGraphEdgeData*, size_t, cudaStreamCaptureMode m) {
  return done(phantom_capture_begin(s, g, m));
}
EXPORT cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* g) {
  return done(phantom_capture_end(s, reinterpret_cast<void**>(g)));
}
EXPORT cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* st) {
  int v = 0;
  int e = phantom_capture_info(s, &v, nullptr, nullptr);
  *st = static_cast<cudaStreamCaptureStatus>(v);
  return done(e);
}
EXPORT cudaError_t cudaStreamGetCaptureInfo(cudaStream_t s, cudaStreamCaptureStatus* st, unsigned long long* id,
                                            cudaGraph_t* g, const cudaGraphNode_t** deps,
                                            const cudaGraphEdgeData** edges, size_t* n) {
  int v = 0;
  uint64_t i = 0;
  int e = phantom_capture_info(s, &v, &i, reinterpret_cast<void**>(g));
  *st = static_cast<cudaStreamCaptureStatus>(v);
  if (id) *id = i;
  if (deps) *deps = nullptr;
  if (edges) *edges = nullptr;
  if (n) *n = 0;
  return done(e);
}
EXPORT cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* m) {
  int v = *m;
  phantom_capture_mode(&v);
  *m = static_cast<cudaStreamCaptureMode>(v);
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphCreate(cudaGraph_t* g, unsigned) {
  *g = reinterpret_cast<cudaGraph_t>(phantom_graph_create());
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphDestroy(cudaGraph_t g) { return done(phantom_graph_destroy(g)); }
EXPORT cudaError_t cudaGraphInstantiate(cudaGraphExec_t* e, cudaGraph_t g, unsigned long long f) {
  return done(phantom_graph_instantiate(reinterpret_cast<void**>(e), g, f));
}
EXPORT cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* e, cudaGraph_t g, unsigned long long f) {
  return done(phantom_graph_instantiate(reinterpret_cast<void**>(e), g, f));
}
EXPORT cudaError_t cudaGraphInstantiateWithParams(cudaGraphExec_t* e, cudaGraph_t g, cudaGraphInstantiateParams* p) {
  return done(phantom_graph_instantiate(reinterpret_cast<void**>(e), g, p ? p->flags : 0));
}
EXPORT cudaError_t cudaGraphExecGetFlags(cudaGraphExec_t e, unsigned long long* f) {
  *f = reinterpret_cast<GraphExec*>(e)->flags;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphExecUpdate(cudaGraphExec_t, cudaGraph_t, cudaGraphExecUpdateResultInfo* r) {
  memset(r, 0, sizeof *r);
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e) { return done(phantom_graph_exec_destroy(e)); }
EXPORT cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s) { return done(phantom_graph_launch(e, s)); }
EXPORT cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t* nodes, size_t* n) {
  Graph* x = reinterpret_cast<Graph*>(g);
  if (!x || x->magic != kGraphMagic) return done(cudaErrorInvalidValue);
  size_t have = x->nodes.size();
  if (nodes)
    for (size_t i = 0; i < *n; ++i) nodes[i] = i < have ? reinterpret_cast<cudaGraphNode_t>(x->nodes[i]) : nullptr;
  if (!nodes || *n > have) *n = have;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphGetRootNodes(cudaGraph_t g, cudaGraphNode_t* nodes, size_t* n) {
  Graph* x = reinterpret_cast<Graph*>(g);
  size_t have = x->nodes.empty() ? 0 : 1;
  if (nodes && *n && have) nodes[0] = reinterpret_cast<cudaGraphNode_t>(x->nodes[0]);
  *n = have;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphGetEdges(cudaGraph_t, cudaGraphNode_t*, cudaGraphNode_t*, cudaGraphEdgeData*, size_t* n) {
  *n = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t, cudaGraphNode_t*, cudaGraphEdgeData*, size_t* n) {
  *n = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphNodeGetDependentNodes(cudaGraphNode_t, cudaGraphNode_t*, cudaGraphEdgeData*, size_t* n) {
  *n = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* t) {
  *t = static_cast<cudaGraphNodeType>(reinterpret_cast<Node*>(node)->type);
  return cudaSuccess;
}
#define ADD_NODE(type) return done(phantom_graph_add(g, type, reinterpret_cast<void**>(n)))
EXPORT cudaError_t cudaGraphAddKernelNode(cudaGraphNode_t* n, cudaGraph_t g, const cudaGraphNode_t*, size_t,
                                          const cudaKernelNodeParams*) {
  ADD_NODE(0);
}
EXPORT cudaError_t cudaGraphAddMemcpyNode(cudaGraphNode_t* n, cudaGraph_t g, const cudaGraphNode_t*, size_t,
                                          const cudaMemcpy3DParms*) {
  ADD_NODE(1);
}
EXPORT cudaError_t cudaGraphAddMemcpyNode1D(cudaGraphNode_t* n, cudaGraph_t g, const cudaGraphNode_t*, size_t, void*,
                                            const void*, size_t, cudaMemcpyKind) {
  ADD_NODE(1);
}
EXPORT cudaError_t cudaGraphAddMemsetNode(cudaGraphNode_t* n, cudaGraph_t g, const cudaGraphNode_t*, size_t,
                                          const cudaMemsetParams*) {
  ADD_NODE(2);
}
EXPORT cudaError_t cudaGraphAddHostNode(cudaGraphNode_t* n, cudaGraph_t g, const cudaGraphNode_t*, size_t,
                                        const cudaHostNodeParams*) {
  ADD_NODE(3);
}
EXPORT cudaError_t cudaGraphAddChildGraphNode(cudaGraphNode_t* n, cudaGraph_t g, const cudaGraphNode_t*, size_t,
                                              cudaGraph_t) {
  ADD_NODE(4);
}
EXPORT cudaError_t cudaGraphAddEmptyNode(cudaGraphNode_t* n, cudaGraph_t g, const cudaGraphNode_t*, size_t) {
  ADD_NODE(5);
}
EXPORT cudaError_t cudaGraphAddEventRecordNode(cudaGraphNode_t* n, cudaGraph_t g, const cudaGraphNode_t*, size_t,
                                               cudaEvent_t) {
  ADD_NODE(7);
}
EXPORT cudaError_t cudaGraphAddEventWaitNode(cudaGraphNode_t* n, cudaGraph_t g, const cudaGraphNode_t*, size_t,
                                             cudaEvent_t) {
  ADD_NODE(6);
}
EXPORT cudaError_t cudaGraphAddNode(cudaGraphNode_t* n, cudaGraph_t g, const cudaGraphNode_t*, const cudaGraphEdgeData*,
                                    size_t, cudaGraphNodeParams* p) {
  ADD_NODE(p ? static_cast<int>(p->type) : 5);
}
EXPORT cudaError_t cudaGraphClone(cudaGraph_t* out, cudaGraph_t g) {
  Graph* x = reinterpret_cast<Graph*>(g);
  Graph* y = phantom_graph_create();
  for (Node* n : x->nodes) phantom_graph_add(y, n->type, nullptr);
  *out = reinterpret_cast<cudaGraph_t>(y);
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphDebugDotPrint(cudaGraph_t g, const char* path, unsigned) {
  FILE* f = fopen(path, "w");
  if (!f) return done(cudaErrorOperatingSystem);
  Graph* x = reinterpret_cast<Graph*>(g);
  fprintf(f, "digraph dot {\n");
  for (size_t i = 0; i < x->nodes.size(); ++i) fprintf(f, "  n%zu [label=\"type %d\"];\n", i, x->nodes[i]->type);
  fprintf(f, "}\n");
  fclose(f);
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle* h, cudaGraph_t, unsigned, unsigned) {
  static std::atomic<unsigned long long> next{1};
  *h = next++;
  return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetGraphMemAttribute(int, cudaGraphMemAttributeType, void* v) {
  *static_cast<uint64_t*>(v) = 0;
  return cudaSuccess;
}
EXPORT cudaError_t cudaUserObjectCreate(cudaUserObject_t* o, void* p, cudaHostFn_t destroy, unsigned refs, unsigned) {
  *o = reinterpret_cast<cudaUserObject_t>(new UserObject{kObjectMagic, destroy, p, static_cast<int>(refs)});
  return cudaSuccess;
}
EXPORT cudaError_t cudaUserObjectRetain(cudaUserObject_t o, unsigned n) {
  reinterpret_cast<UserObject*>(o)->refs += static_cast<int>(n);
  return cudaSuccess;
}
EXPORT cudaError_t cudaUserObjectRelease(cudaUserObject_t o, unsigned n) {
  UserObject* x = reinterpret_cast<UserObject*>(o);
  x->refs -= static_cast<int>(n);
  if (x->refs <= 0) {
    if (x->destroy) x->destroy(x->data);
    delete x;
  }
  return cudaSuccess;
}
EXPORT cudaError_t cudaGraphRetainUserObject(cudaGraph_t g, cudaUserObject_t o, unsigned n, unsigned flags) {
  UserObject* x = reinterpret_cast<UserObject*>(o);
  if (!(flags & cudaGraphUserObjectMove)) x->refs += static_cast<int>(n);
  for (unsigned i = 0; i < n; ++i) reinterpret_cast<Graph*>(g)->objects.push_back(x);
  return cudaSuccess;
}
