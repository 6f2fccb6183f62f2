// The device's kernels in the host's memory, by emulation: what can be tested of them where there is no device.
// Products are the host's (on a device they are cuBLAS's).
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace tidemark {

std::unique_ptr<Backend> MakeEmulatedCuda();

}  // namespace tidemark
