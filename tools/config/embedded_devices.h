// The files of configs/devices, compiled in (config/embed_devices.cmake writes the source).
#pragma once

#include <span>
#include <string_view>

namespace tidemark {

struct EmbeddedDevice {
  std::string_view name;  // the file's, without .yaml
  std::string_view text;
};

std::span<const EmbeddedDevice> EmbeddedDevices();

}  // namespace tidemark
