#include "tools/formats/files.h"

#include "sim/output_file.h"
#include "tools/formats/byte_source.h"

namespace tidemark {

Result<std::string> ReadFile(const std::string& path) {
  ASSIGN_OR_RETURN(ByteSource source, ByteSource::Open(path));
  std::string content;
  while (const std::optional<std::string_view> part = source.Take(1)) {
    content.append(*part);
    content.append(*source.Take(source.Peek(ByteSource::kMaxView).size()));
  }
  RETURN_IF_ERROR(source.status());
  return content;
}

Status WriteFile(const std::string& path, std::string_view content) {
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(path));
  if (path.ends_with(".gz")) {
    file.WriteGzip(content);
  } else {
    file.Write(content);
  }
  return file.Finish();
}

}  // namespace tidemark
