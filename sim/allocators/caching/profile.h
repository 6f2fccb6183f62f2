// What differs between PyTorch's releases, as data of one engine. From c10/cuda/CUDACachingAllocator.cpp and
// c10/core/AllocatorConfig.cpp of the releases named; 2.11.0, 2.12.0, 2.13.0, 2.14.1 and 2.15.0 were checked event by
// event (tests/differential/allocator_differential.py). Not modelled: blocks whose frees wait for the end of a capture,
// in 2.11 and 2.12 also of an entered pool, are freed in the order of a hash table of pointers.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "graph/base/result.h"

namespace tidemark::caching {

// How free blocks of the same stream and size are ordered: the first one is handed out.
enum class TieOrder : uint8_t {
  kAddress,        // by address
  kBlockCreation,  // by creation of the block: what is cut off for a request is a new one, what absorbs a neighbour
                   // stays
  kCreation,       // by creation of their segment, then address
};

enum class ConfGrammar : uint8_t {
  kStrict,   // CUDAAllocatorConfig before the refactoring of 2025: separators are enforced
  kLenient,  // AcceleratorAllocatorConfig: separators are consumed unseen
};

struct Profile {
  std::string_view name;
  std::string_view description;  // one line: what is peculiar, and how sure that is
  TieOrder ties = TieOrder::kCreation;
  ConfGrammar grammar = ConfGrammar::kLenient;
  bool large_segment_option = true;       // large_segment_size_mb exists
  bool non_split_rounding_option = true;  // max_non_split_rounding_mb exists; without it the slack is 20 MiB
  bool fraction_option = true;            // per_process_memory_fraction exists in the conf string
  bool reject_option = true;              // throw_on_cudamalloc_oom exists
  bool reserve_option = false;            // expandable_segments_reserve(_by_class) exist
  bool catch_all_options = true;          // pinned_free_catch_all, pinned_max_… exist
  bool reuse_in_capture_option = true;    // graph_capture_record_stream_reuse exists
  // A fraction of 1 sets no limit and the limit is rounded half away from zero; else any call sets one, truncated.
  bool whole_fraction_is_no_limit = true;
  bool last_scope_wins = true;           // of nested pool scopes that match; else the first
  bool scope_counts_as_capture = false;  // while a user pool is entered, no events are processed and nothing is flushed
  bool advice_unless_expandable = true;  // the message's last sentences are left out with expandable segments
  std::string_view expandable_advice;    // what stands in their place
  std::string_view documentation =
      "https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf";
};

// Oldest first.
std::span<const Profile> Profiles();
// "pytorch" is the newest that has been checked. Error: an unknown name, with those that are known.
Result<const Profile*> FindProfile(std::string_view name);

}  // namespace tidemark::caching
