// Every invariant of a Graph, in one place. Passes are run with this behind them; a failure is a bug of the pass (or an
// error in a graph's text), never of a configuration.
//
// Ids are in range and in order:
//  - each op, phase and holder stands in the program at most once, ops and phases exactly once and in order of their
//  ids
//  - operands are tensors, tensors lie within their storages, a storage's producer has it as the result it says
//  - probes are in the order of their phases
// What is used is there:
//  - an op reads tensors of storages that were produced before it and that somebody still holds; so does a probe
//  - a result is either a storage that the op produces, or one of its operands: changed in place. Compiled code may
//    also write a result over any storage that somebody holds (a kernel or product that takes over memory)
//  - ops of one kernel stand side by side; what stays inside it only they read
// Holders come and go in order:
//  - each takes hold while its storage lives, lets go at most once, and later than it took hold
//  - each storage has one that took hold before the next op but one: nothing dies unheld
#pragma once

#include "graph/base/result.h"
#include "graph/graph.h"

namespace tidemark {

// The first thing that is wrong, in program order. O(program + operands + holders).
Status VerifyGraph(const Graph& graph);

}  // namespace tidemark
