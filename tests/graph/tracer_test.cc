// When handles let go: each test writes a few lines of a "Python" program and compares the events of its tape.
#include <gtest/gtest.h>

#include <string>

#include "graph/autocast.h"
#include "graph/autograd.h"
#include "graph/checkpoint.h"
#include "graph/functional.h"
#include "sim/lower.h"

namespace tidemark {
namespace {

// "+0 +1 -0": allocations and frees by number.
std::string EventsOf(Tracer& tracer) {
  const Graph graph = tracer.TakeGraph();
  std::string text;
  for (const Event& e : Lower(graph, tracer.device()).tape.events) {
    if (!text.empty()) text += ' ';
    text += (e.kind == EventKind::kAlloc ? '+' : '-') + std::to_string(e.allocation.index());
  }
  return text;
}

Tensor Ones(Tracer& t, const Dims& sizes) { return Full(t, DType::kFloat32, sizes, 1); }

TEST(Handles, RebindingANameDropsTheOldTensorOnceTheNewOneIsThere) {
  Tracer t{DeviceSpec()};
  Tensor x = Ones(t, {4});
  x = Neg(x);
  x.Reset();
  EXPECT_EQ(EventsOf(t), "+0 +1 -0 -1");
}

TEST(Handles, TemporariesDieWhenTheConsumingOperatorHasReturned) {
  Tracer t{DeviceSpec()};
  const Tensor x = Ones(t, {4});
  const Tensor y = Add(Neg(x), Neg(x));  // both operands live until the sum is there
  const Graph graph = t.TakeGraph();
  std::vector<EventKind> kinds;
  for (const Event& e : Lower(graph, t.device()).tape.events) kinds.push_back(e.kind);
  EXPECT_EQ(kinds, (std::vector{EventKind::kAlloc, EventKind::kAlloc, EventKind::kAlloc, EventKind::kAlloc,
                                EventKind::kFree, EventKind::kFree}));
}

TEST(Handles, AViewKeepsItsBase) {
  Tracer t{DeviceSpec()};
  Tensor view;
  {
    const Tensor x = Ones(t, {2, 3});
    view = View(x, {6});
  }
  const Tensor y = Neg(view);  // x's name is gone, its storage isn't
  view.Reset();
  EXPECT_EQ(EventsOf(t), "+0 +1 -0");
}

TEST(Handles, NothingOfZeroBytesIsAllocated) {
  Tracer t{DeviceSpec()};
  Tensor x = Ones(t, {0, 5});
  x.Reset();
  EXPECT_EQ(EventsOf(t), "");
}

TEST(Autograd, SavedTensorsOutliveTheirNamesUntilTheNodeRan) {
  Tracer t{DeviceSpec()};
  const Tensor w = Ones(t, {4});  // +0
  MakeParameter(w);
  Tensor y = Gelu(Neg(w));    // +1 (saved by gelu) +2
  Backward(y, Ones(t, {4}));  // +3; gelu: +4 -3 -1; neg: +5 -4; w.grad takes 5
  y.Reset();                  // -2
  EXPECT_EQ(EventsOf(t), "+0 +1 +2 +3 +4 -3 -1 +5 -4 -2");
}

TEST(Autograd, AFreshGradientIsAddedToInPlace) {
  Tracer t{DeviceSpec()};
  const Tensor w = Ones(t, {4});
  MakeParameter(w);
  // Two branches of one tensor; each gradient comes from a kernel of its own.
  Tensor left = Neg(w);
  Tensor right = Mul(w, 2.0);
  const Tensor y = Add(std::move(left), std::move(right));  // +1 +2 +3 -1 -2
  Backward(y, Ones(t, {4}));  // +4; mul: +5; neg: +6 -4 (the last user of 4), 6 is added to 5: -6
  EXPECT_EQ(EventsOf(t), "+0 +1 +2 +3 -1 -2 +4 +5 +6 -4 -6");
}

TEST(Autograd, AGradientThatIsAViewIsSummedOutOfPlace) {
  Tracer t{DeviceSpec()};
  const Tensor w = Ones(t, {2, 3});
  MakeParameter(w);
  // The branch made last runs first: its gradient arrives as a view of another tensor.
  const Tensor first = Neg(w);                        // +1
  const Tensor second = Neg(View(w, {6}));            // +2
  const Tensor y = Add(first, View(second, {2, 3}));  // +3
  Backward(y, Ones(t, {2, 3}));                       // +4; neg: +5; neg: +6 -4; 5 is held by a view: +7 -5 -6
  EXPECT_EQ(EventsOf(t), "+0 +1 +2 +3 +4 +5 +6 -4 +7 -5 -6");
}

TEST(Autograd, ALeafAndItsGradientLiveAsLongAsTheNodesThatLeadToThem) {
  Tracer t{DeviceSpec()};
  Tensor x = Ones(t, {4});
  RequireGrad(x);
  Tensor y = Neg(x);
  x.Reset();                  // neg's node still leads to x
  Backward(y, Ones(t, {4}));  // +2 root, +3 the gradient, which .grad takes over; -2
  y.Reset();                  // the graph goes first: x's gradient, x; then y
  EXPECT_EQ(EventsOf(t), "+0 +1 +2 +3 -2 -3 -0 -1");
}

TEST(Autograd, WithoutGradModeNothingIsSaved) {
  Tracer t{DeviceSpec()};
  const Tensor w = Ones(t, {4});
  MakeParameter(w);
  const GradMode no_grad(t, false);
  const Tensor y = Gelu(Neg(w));
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(EventsOf(t), "+0 +1 +2 -1");
}

TEST(Autocast, WeightsAreCastOncePerRegionAndInputsAtEveryUse) {
  Tracer t{DeviceSpec()};
  const Tensor w = Ones(t, {4, 4});  // +0
  MakeParameter(w);
  const Tensor x = Ones(t, {2, 4});  // +1
  const GradMode no_grad(t, false);
  {
    const AutocastRegion region(t, true, DType::kFloat16);
    Linear(x, w, Tensor());  // +2 cast of w, +3 cast of x, +4 result, +5 workspace; -3 -4
    Linear(x, w, Tensor());  // +6 cast of x, +7 result; -6 -7
  }                          // -2
  EXPECT_EQ(EventsOf(t), "+0 +1 +2 +3 +4 +5 -3 -4 +6 +7 -6 -7 -2");
}

// gelu(gelu(-w)) under both kinds of checkpoint.
Tensors TwoGelus(const Tensors& in) { return {Gelu(Gelu(in[0]))}; }

TEST(Checkpoint, NonReentrantRunsTheRegionAgainUpToTheLastSave) {
  Tracer t{DeviceSpec()};
  const Tensor w = Ones(t, {4});
  MakeParameter(w);
  Tensor x = Neg(w);                                        // +1: kept by the frame
  Tensor y = CheckpointNonReentrant(t, {x}, &TwoGelus)[0];  // +2 +3 -2: nothing is saved
  x.Reset();
  // +4 root; second gelu: its input again +5, where the region stops; +6 its gradient; what it unpacked goes before the
  // incoming gradient: -5 -4; first gelu: +7 -6, then the frame with the input: -1; neg: +8 -7
  Backward(y, Ones(t, {4}));
  EXPECT_EQ(EventsOf(t), "+0 +1 +2 +3 -2 +4 +5 +6 -5 -4 +7 -6 -1 +8 -7");
}

TEST(Checkpoint, ReentrantRunsTheWholeRegionAgain) {
  Tracer t{DeviceSpec()};
  const Tensor w = Ones(t, {4});
  MakeParameter(w);
  Tensor x = Neg(w);                                     // +1
  Tensor y = CheckpointReentrant(t, {x}, &TwoGelus)[0];  // +2 +3 -2
  x.Reset();
  // +4 root; the region again: +5 +6; its backward: +7, its saved input -5, +8 -7; the result goes: -6, then the
  // incoming gradient -4 and the saved input -1; neg: +9 -8
  Backward(y, Ones(t, {4}));
  EXPECT_EQ(EventsOf(t), "+0 +1 +2 +3 -2 +4 +5 +6 +7 -5 +8 -7 -6 -4 -1 +9 -8");
}

// A region of two inputs: the second is handed through.
Tensors GeluAndSecond(const Tensors& in) { return {Gelu(in[0]), in[1]}; }

TEST(Checkpoint, AResultOfAReentrantRegionWithoutAGradientGetsZeros) {
  Tracer t{DeviceSpec()};
  const Tensor w = Ones(t, {4});
  const Tensor v = Ones(t, {2});
  MakeParameter(w);
  MakeParameter(v);
  Tensors y = CheckpointReentrant(t, {w, v}, &GeluAndSecond);  // +2
  y[1].Reset();
  // +3 root; zeros for the second result +4; the region again +5; backward: the second result is an input, whose .grad
  // is a copy of the zeros, since the outer frame holds those: +6; gelu's gradient +7. The result goes, then the zeros,
  // then the root; w and v take the gradients over.
  Backward(y[0], Ones(t, {4}));
  EXPECT_EQ(EventsOf(t), "+0 +1 +2 +3 +4 +5 +6 +7 -5 -4 -3");
}

}  // namespace
}  // namespace tidemark
