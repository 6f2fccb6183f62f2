#include "sim/allocators/caching/profile.h"

#include <fmt/format.h>

#include <array>
#include <string>

namespace tidemark::caching {
namespace {

constexpr std::string_view kOldDocumentation = "https://pytorch.org/docs/stable/notes/cuda.html#environment-variables";

constexpr Profile Pytorch26() {
  Profile p{.name = "pytorch-2.6",
            .description =
                "free blocks of equal size by address, strict conf strings, no large_segment_size_mb, no fraction in "
                "the conf string (from its source)"};
  p.ties = TieOrder::kAddress;
  p.grammar = ConfGrammar::kStrict;
  p.large_segment_option = false;
  p.fraction_option = false;
  p.reject_option = false;
  p.catch_all_options = false;
  p.reuse_in_capture_option = false;
  p.whole_fraction_is_no_limit = false;
  p.last_scope_wins = false;
  p.scope_counts_as_capture = true;
  p.advice_unless_expandable = false;
  p.documentation = kOldDocumentation;
  return p;
}

// Settings after their refactoring, free blocks still by address.
constexpr Profile Pytorch211() {
  Profile p{.name = "pytorch-2.11",
            .description =
                "free blocks of equal size by address, settings as today's, no throw_on_cudamalloc_oom; checked event "
                "by event"};
  p.ties = TieOrder::kAddress;
  p.reject_option = false;
  p.catch_all_options = false;
  p.scope_counts_as_capture = true;
  p.advice_unless_expandable = false;
  return p;
}

constexpr Profile Pytorch212() {
  Profile p{.name = "pytorch-2.12",
            .description = "free blocks of equal size by their own creation; checked event by event"};
  p.ties = TieOrder::kBlockCreation;
  p.scope_counts_as_capture = true;
  p.advice_unless_expandable = false;
  return p;
}

constexpr Profile Pytorch213() {
  Profile p{.name = "pytorch-2.13",
            .description = "as 2.14 but for the advice in an out-of-memory message; checked event by event"};
  p.advice_unless_expandable = false;
  return p;
}

constexpr Profile Pytorch215() {
  Profile p{.name = "pytorch-2.15", .description = "as 2.14, and expandable_segments_reserve; checked event by event"};
  p.reserve_option = true;
  p.expandable_advice =
      " expandable_segments is enabled. If instead the process is running out of virtual address space (VSZ), "
      "expandable segments may be over-reserving VA (each segment reserves ~9/8 of device memory, times the number of "
      "streams); reduce it via PYTORCH_CUDA_ALLOC_CONF expandable_segments_reserve / "
      "expandable_segments_reserve_by_class.";
  return p;
}

constexpr std::array kProfiles = {
    Pytorch26(),
    Pytorch211(),
    Pytorch212(),
    Pytorch213(),
    Profile{.name = "pytorch-2.14",
            .description = "free blocks of equal size by creation of their segment; checked event by event"},
    Pytorch215(),
};
constexpr std::string_view kNewestChecked = "pytorch-2.14";

}  // namespace

std::span<const Profile> Profiles() { return kProfiles; }

Result<const Profile*> FindProfile(std::string_view name) {
  if (name == "pytorch") name = kNewestChecked;
  std::string known;
  for (const Profile& profile : kProfiles) {
    if (profile.name == name) return &profile;
    known += fmt::format(" {}", profile.name);
  }
  return InvalidInput(fmt::format("unknown framework \"{}\"; known: pytorch{}", name, known));
}

}  // namespace tidemark::caching
