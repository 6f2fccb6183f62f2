// A complete search for a plan within a capacity, which leaves no room unused where there is none to spare.
//
// The state is a skyline: for each step the height up to which it is settled. A *valley* is a run of steps at one
// height between higher neighbours.
//
//   offset |      ____
//          |     |    |  b?  |          Whatever lies lowest in the first step of a valley either begins in that step,
//          or nothing
//          |_____|    |______|___       lies there and the step's floor can be raised. So the choices at the left edge
//          are the
//          +--------- ^ edge ----> step buffers that begin there and end within the valley; likewise those that end at
//          the right.
//
// Each plan in which every buffer rests on another (or on 0), which each plan can be brought to, is met exactly this
// way. At every point the edge with the fewest choices is decided; a step whose floor plus what is still to come
// exceeds the capacity ends the branch. Where no buffer that is still to be placed crosses a step, the two sides are
// independent and are solved one by one: a side that fails doesn't make the other one try its alternatives. Restarts
// with other orders of the choices (lengths after Luby, Sinclair and Zuckerman 1993) get out of bad beginnings.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "sim/planners/plan.h"

namespace tidemark {

struct SearchLimits {
  int64_t capacity = 0;
  uint64_t nodes = 0;             // all restarts together
  uint64_t first_restart = 1000;  // nodes of the shortest try, beside two for each buffer
};

// A plan of at most the capacity, or nothing: there is none, or it wasn't found within the limit. A node costs
// O(steps). Best called with compressed lifetimes. Deterministic.
std::optional<StaticPlan> SearchPlan(std::span<const PlanBuffer> buffers, const SearchLimits& limits);

}  // namespace tidemark
