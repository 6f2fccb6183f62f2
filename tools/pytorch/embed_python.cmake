# cmake -DFOLDER=tools/phantom/python -DOUTPUT=embedded_python.cc -P embed_python.cmake: the folder's files as a C++ source.
file(GLOB files ${FOLDER}/*.py)
list(SORT files)
set(entries "")
foreach(file ${files})
  get_filename_component(name ${file} NAME)
  file(READ ${file} text)
  string(APPEND entries "    {\"${name}\", R\"python(${text})python\"},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"tools/pytorch/embedded_python.h\"

namespace tidemark {
namespace {

constexpr EmbeddedPython kFiles[] = {
${entries}};

}  // namespace

std::span<const EmbeddedPython> EmbeddedPythonFiles() { return kFiles; }

}  // namespace tidemark
")
