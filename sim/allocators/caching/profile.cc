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

// 2.11 and 2.12: settings after their refactoring, free blocks still by address.
constexpr Profile Early2026(std::string_view name) {
  Profile p{.name = name,
            .description =
                "free blocks of equal size by address, settings as today's, no throw_on_cudamalloc_oom (from its "
                "source)"};
  p.ties = TieOrder::kAddress;
  p.reject_option = false;
  p.catch_all_options = false;
  p.scope_counts_as_capture = true;
  p.last_scope_wins = false;
  p.advice_unless_expandable = false;
  return p;
}

constexpr Profile Pytorch215() {
  Profile p{.name = "pytorch-2.15", .description = "as 2.14, and expandable_segments_reserve (from its source)"};
  p.reserve_option = true;
  return p;
}

constexpr std::array kProfiles = {
    Pytorch26(),
    Early2026("pytorch-2.11"),
    Early2026("pytorch-2.12"),
    Profile{.name = "pytorch-2.13", .description = "as 2.14: free blocks of equal size by creation of their segment"},
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
