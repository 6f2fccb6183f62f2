// Private pools (torch.cuda.MemPool, CUDA graphs) and stream captures.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "sim/allocators/caching/engine.h"

namespace tidemark::caching {

void CachingAllocator::Unsupported(std::string why) {
  if (unsupported_.empty()) unsupported_ = std::move(why);
}

uint32_t CachingAllocator::NewPrivatePool(uint32_t number) {
  PrivatePool pool;
  pool.number = number;
  pool.small = static_cast<uint32_t>(pools_.size());
  pool.large = pool.small + 1;
  const uint32_t owner = static_cast<uint32_t>(private_pools_.size());
  pools_.push_back(BlockPool{.small = true, .owner = owner, .lookups = 0, .by_stream = {}});
  pools_.push_back(BlockPool{.small = false, .owner = owner, .lookups = 0, .by_stream = {}});
  // Marks are kept by the pool's number and outlive it.
  if (const auto old = pool_by_number_.find(number); old != pool_by_number_.end()) {
    pool.no_split = private_pools_[old->second].no_split;
    pool.use_on_oom = private_pools_[old->second].use_on_oom;
  }
  private_pools_.push_back(pool);
  pool_by_number_[number] = owner;
  return owner;
}

// The pool of a number; the first mention makes it, with one user.
uint32_t CachingAllocator::PoolNumbered(uint32_t number) {
  const auto found = pool_by_number_.find(number);
  return found != pool_by_number_.end() ? found->second : NewPrivatePool(number);
}

// create_or_incref_pool
void CachingAllocator::AddUser(uint32_t& pool) {
  if (!private_pools_[pool].exists) {
    pool = NewPrivatePool(private_pools_[pool].number);
  } else if (private_pools_[pool].users == 0) {
    Unsupported(fmt::format("pool {} is used again after its last user went: PyTorch ends in an internal assertion",
                            private_pools_[pool].number));
  } else {
    ++private_pools_[pool].users;
  }
}

// releasePool
void CachingAllocator::DropUser(uint32_t pool) {
  PrivatePool& p = private_pools_[pool];
  if (!p.exists || p.users == 0) {
    Unsupported(fmt::format("pool {} has no user that could go: PyTorch ends in an internal assertion", p.number));
    return;
  }
  if (--p.users == 0) freeable_.push_back(pool);
}

// beginAllocateToPool
void CachingAllocator::EnterPool(uint32_t& pool, int32_t stream, bool all_streams) {
  AddUser(pool);
  if (std::ranges::any_of(scopes_, [&](const Scope& scope) { return scope.pool == pool; })) {
    Unsupported(
        fmt::format("pool {} is entered twice: PyTorch says \"beginAllocateToPool: already recording to mempool_id\"",
                    private_pools_[pool].number));
    return;
  }
  scopes_.push_back({pool, stream, all_streams});
}

// endAllocateToPool
void CachingAllocator::LeavePool(uint32_t pool) {
  const auto found = std::ranges::find_if(scopes_, [&](const Scope& scope) { return scope.pool == pool; });
  if (found == scopes_.end()) {
    Unsupported(
        fmt::format("pool {} is left but not entered: PyTorch says \"endAllocatePool: not currently recording to "
                    "mempool_id\"",
                    private_pools_[pool].number));
    return;
  }
  scopes_.erase(found);
}

void CachingAllocator::PoolEvent(const Event& event) {
  uint32_t pool = PoolNumbered(event.pool);
  switch (event.kind) {
    case EventKind::kPoolEnter:
      EnterPool(pool, 0, /*all_streams=*/true);
      break;
    case EventKind::kPoolLeave:
      LeavePool(pool);
      DropUser(pool);
      break;
    case EventKind::kPoolRelease:
      DropUser(pool);
      break;
    case EventKind::kPoolEmpty:
      EmptyPrivatePool(pool);
      break;
    case EventKind::kPoolUseOnOom:
      private_pools_[pool].use_on_oom = true;
      break;
    case EventKind::kPoolNoSplit:
      private_pools_[pool].no_split = true;
      break;
    case EventKind::kCaptureBegin:
      EnterPool(pool, event.stream, /*all_streams=*/false);
      if (IsCaptured(event.stream)) Unsupported(fmt::format("stream {} is captured twice", event.stream));
      captures_.push_back({pool, event.stream, false});
      break;
    case EventKind::kCaptureEnd:
      LeavePool(pool);
      std::erase_if(captures_, [&](const Scope& capture) { return capture.pool == pool; });
      break;
    default:
      break;
  }
}

}  // namespace tidemark::caching
