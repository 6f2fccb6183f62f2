# cmake -DFOLDER=configs/devices -DOUTPUT=embedded_devices.cc -P embed_devices.cmake: the folder's YAML files as a C++ source.
file(GLOB files ${FOLDER}/*.yaml)
list(SORT files)
set(entries "")
foreach(file ${files})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} text)
  string(APPEND entries "    {\"${name}\", R\"yaml(${text})yaml\"},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"tools/config/embedded_devices.h\"

namespace tidemark {
namespace {

constexpr EmbeddedDevice kDevices[] = {
${entries}};

}  // namespace

std::span<const EmbeddedDevice> EmbeddedDevices() { return kDevices; }

}  // namespace tidemark
")
