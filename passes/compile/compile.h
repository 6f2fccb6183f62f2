// torch.compile: a model's step as Inductor's code would run it, made of passes.
//
//   model ──Capture──▶ traced ops ──Decompose──▶ joint graph ──joint passes──▶ ──Partition (min-cut)──▶ forward,
//   backward
//                                                                                                          │
//   tracer ◀──Emit── lines ◀──Plan── ordered kernels ◀──Order── kernels ◀──Fuse── operations ◀──Lower── post-grad
//   passes
//
// Terms, each a type of its own and each printable (a Stage):
//   functional graph  nodes with core operators, no places in memory: what is computed (functional_graph.h)
//   joint             forward and backward in one functional graph; the cut of it decides what is saved (partition.h)
//   box               a value that may never exist: an expression over loads, seen through index transforms (lower.h)
//   buffer            a value that is written to memory; realising a box makes one (buffers.h)
//   operation         a loop nest that writes a buffer, or a call of a library (buffers.h)
//   kernel            operations fused into one (schedule.h, fuse.h)
//   line              allocate, take over, launch, free: the generated code (plan.h)
//
// How it fits the rest. A model is captured by running its own C++ module, and the engine's backward, on a tracer that
// records views and changes nothing in place (Tracer::functional): the same operators and autograd rules as in an eager
// run, so that the order of the joint graph is the engine's. In the run itself (graph/training) a compiled model takes
// the model's place: each call runs the forward's lines on the run's tracer, whose handles count references; the saved
// tensors belong to one autograd node, which runs the backward's lines. So what surrounds a compiled region (loop,
// scaler, engine, optimizer) is the eager run's code, and the result is one Graph: fused kernels are its ops
// (OpKind::kFusedKernel, with the list of what each computes), reuse is a result on a storage that is there already,
// and Lower() makes the tape. graph/ doesn't know this folder: loop.h has the interface that CompiledModel implements.
//
// Lengths. The first compilation of a mode is for one length. Once another length comes, a graph with a symbolic length
// is compiled and serves all. Here a size is two numbers (Extent): at the length of the compilation, on which decisions
// rest, and at the length of the call, which is allocated; two sizes are equal if both numbers are.
//
// Rules and names are those of PyTorch 2.14's torch/_functorch and torch/_inductor; each file names its source.
