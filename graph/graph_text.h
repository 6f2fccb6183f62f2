// A graph as text, for dumps and tests: one step of the program a line, in order.
//
//   phase forward step=0 micro=0
//   probe gradient s1 name=h.0.ln_1.weight
//   s2:float16[8,16] activation = Mm(s0, s1:float16[4,16]{1,4}) @h.0.mlp.c_fc
//   hold h0 s2 local @h.0.mlp.c_fc
//   s2 = Add(s2, s3) number=1 @h.0 node=AddBackward0 autograd
//   release h0
//
// s2 is a storage, and a tensor: the whole of it, as its producer made it. Another view of it says its number format,
// sizes, {strides} where it isn't contiguous, and +offset in elements. A result that is there already is changed in
// place. Probes of a phase stand behind it. `hold` stands before the op before which the holder took hold. What is the
// default is left out (a storage's name and bytes, a holder's scope and node); `#` starts a comment.
#pragma once

#include <string>
#include <string_view>

#include "graph/base/result.h"
#include "graph/graph.h"

namespace tidemark {

std::string PrintGraph(const Graph& graph);

// Errors: the line that can't be understood, and what was expected there. Storages and holders may have any numbers;
// they are numbered anew, in order of appearance. The result is verified (graph/verify.h).
Result<Graph> ParseGraph(std::string_view text);

std::string_view Name(Role role);
std::string_view Name(HolderKind kind);
std::string_view Name(ProbeKind kind);

}  // namespace tidemark
