// Phantom GPU: the driver API: streams, events, capture, graphs.
#include "driver.h"

using namespace ph;

// --- streams and events

EXPORT CUresult cuStreamCreate(CUstream* s, unsigned flags) {
  RET(phantom_stream_create(reinterpret_cast<void**>(s), flags, 0));
}
EXPORT CUresult cuStreamCreateWithPriority(CUstream* s, unsigned flags, int priority) {
  RET(phantom_stream_create(reinterpret_cast<void**>(s), flags, priority));
}
EXPORT CUresult cuStreamDestroy(CUstream s) { RET(phantom_stream_destroy(s)); }
EXPORT CUresult cuStreamQuery(CUstream s) { RET(phantom_stream_query(s)); }
EXPORT CUresult cuStreamSynchronize(CUstream s) { RET(phantom_stream_sync(s)); }
EXPORT CUresult cuStreamWaitEvent(CUstream s, CUevent e, unsigned) { RET(phantom_stream_wait(s, e)); }
EXPORT CUresult cuStreamGetPriority(CUstream s, int* p) {
  Stream* x = phantom_stream(s);
  if (!x) return CUDA_ERROR_INVALID_HANDLE;
  *p = x->priority;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamGetFlags(CUstream s, unsigned* f) {
  Stream* x = phantom_stream(s);
  if (!x) return CUDA_ERROR_INVALID_HANDLE;
  *f = x->flags;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamGetId(CUstream s, unsigned long long* id) {
  Stream* x = phantom_stream(s);
  if (!x) return CUDA_ERROR_INVALID_HANDLE;
  *id = x->id;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamGetDevice(CUstream, CUdevice* d) {
  *d = 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamGetCtx(CUstream, CUcontext* c) {
  *c = primary();
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamGetCtx_v2(CUstream, CUcontext* c, CUgreenCtx* g) {
  *c = primary();
  if (g) *g = nullptr;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamAddCallback(CUstream s, CUstreamCallback f, void* data, unsigned) {
  f(s, CUDA_SUCCESS, data);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLaunchHostFunc(CUstream s, CUhostFn f, void* data) {
  int status = 0;
  phantom_capture_info(s, &status, nullptr, nullptr);
  if (status)
    phantom_capture_node(s, 3);
  else
    f(data);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuEventCreate(CUevent* e, unsigned flags) {
  RET(phantom_event_create(reinterpret_cast<void**>(e), flags));
}
EXPORT CUresult cuEventDestroy(CUevent e) { RET(phantom_event_destroy(e)); }
EXPORT CUresult cuEventRecord(CUevent e, CUstream s) { RET(phantom_event_record(e, s)); }
EXPORT CUresult cuEventRecordWithFlags(CUevent e, CUstream s, unsigned) { RET(phantom_event_record(e, s)); }
EXPORT CUresult cuEventQuery(CUevent e) { RET(phantom_event_query(e)); }
EXPORT CUresult cuEventSynchronize(CUevent e) { RET(phantom_event_sync(e)); }
EXPORT CUresult cuEventElapsedTime_v2(float* ms, CUevent a, CUevent b) { RET(phantom_event_elapsed(ms, a, b)); }
#undef cuEventElapsedTime
EXPORT CUresult cuEventElapsedTime(float* ms, CUevent a, CUevent b) { RET(phantom_event_elapsed(ms, a, b)); }

// --- capture and graphs

EXPORT CUresult cuStreamBeginCapture(CUstream s, CUstreamCaptureMode m) { RET(phantom_capture_begin(s, nullptr, m)); }
EXPORT CUresult cuStreamBeginCaptureToGraph(CUstream s, CUgraph g, const CUgraphNode*, const CUgraphEdgeData*, size_t,
                                            CUstreamCaptureMode m) {
  RET(phantom_capture_begin(s, g, m));
}
EXPORT CUresult cuStreamEndCapture(CUstream s, CUgraph* g) { RET(phantom_capture_end(s, reinterpret_cast<void**>(g))); }
EXPORT CUresult cuStreamIsCapturing(CUstream s, CUstreamCaptureStatus* st) {
  int v = 0;
  int e = phantom_capture_info(s, &v, nullptr, nullptr);
  *st = static_cast<CUstreamCaptureStatus>(v);
  RET(e);
}
EXPORT CUresult cuStreamGetCaptureInfo(CUstream s, CUstreamCaptureStatus* st, cuuint64_t* id, CUgraph* g,
                                       const CUgraphNode** deps, const CUgraphEdgeData** edges, size_t* n) {
  int v = 0;
  uint64_t i = 0;
  int e = phantom_capture_info(s, &v, &i, reinterpret_cast<void**>(g));
  *st = static_cast<CUstreamCaptureStatus>(v);
  if (id) *id = i;
  if (deps) *deps = nullptr;
  if (edges) *edges = nullptr;
  if (n) *n = 0;
  RET(e);
}
EXPORT CUresult cuStreamGetCaptureInfo_v2(CUstream s, CUstreamCaptureStatus* st, cuuint64_t* id, CUgraph* g,
                                          const CUgraphNode** deps, size_t* n) {
  return cuStreamGetCaptureInfo(s, st, id, g, deps, nullptr, n);
}
EXPORT CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* m) {
  int v = *m;
  phantom_capture_mode(&v);
  *m = static_cast<CUstreamCaptureMode>(v);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphCreate(CUgraph* g, unsigned) {
  *g = reinterpret_cast<CUgraph>(phantom_graph_create());
  return CUDA_SUCCESS;
}
EXPORT CUresult cuGraphDestroy(CUgraph g) { RET(phantom_graph_destroy(g)); }
EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec* e, CUgraph g, unsigned long long f) {
  RET(phantom_graph_instantiate(reinterpret_cast<void**>(e), g, f));
}
EXPORT CUresult cuGraphInstantiateWithParams(CUgraphExec* e, CUgraph g, CUDA_GRAPH_INSTANTIATE_PARAMS* p) {
  RET(phantom_graph_instantiate(reinterpret_cast<void**>(e), g, p ? p->flags : 0));
}
EXPORT CUresult cuGraphExecDestroy(CUgraphExec e) { RET(phantom_graph_exec_destroy(e)); }
EXPORT CUresult cuGraphLaunch(CUgraphExec e, CUstream s) { RET(phantom_graph_launch(e, s)); }
EXPORT CUresult cuGraphGetNodes(CUgraph g, CUgraphNode* nodes, size_t* n) {
  Graph* x = reinterpret_cast<Graph*>(g);
  if (!x || x->magic != kGraphMagic) return CUDA_ERROR_INVALID_VALUE;
  size_t have = x->nodes.size();
  if (nodes)
    for (size_t i = 0; i < *n; ++i) nodes[i] = i < have ? reinterpret_cast<CUgraphNode>(x->nodes[i]) : nullptr;
  if (!nodes || *n > have) *n = have;
  return CUDA_SUCCESS;
}
