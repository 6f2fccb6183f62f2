// Python pickles as data. Only opcodes that make data are understood (protocols 0 to 5): None, truth values, numbers,
// strings, lists, tuples, dicts and the memo. Everything by which a pickle could run code (GLOBAL, REDUCE, BUILD, …) is
// refused by name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "graph/base/result.h"
#include "tools/formats/byte_source.h"
#include "tools/formats/object_tree.h"

namespace tidemark {

struct Unpickled {
  ObjectTree tree;
  Value root;
};

// Reads one pickle, in one pass and without recursion. `name` is what errors call it: "NAME: byte 17: …". Bytes after
// the pickle are ignored (memory_viz pads with zeros). `reducer` may be null.
Result<Unpickled> ReadPickle(ByteSource& source, const std::string& name, DictReducer* reducer);

// Writes a pickle of protocol 4 with plain opcodes and no memo, as every reader understands it (torch.cuda._memory_viz
// and its web page included). Calls nest as the data does:
//
//   PickleWriter out; out.BeginDict(); out.Key("segments"); out.BeginList(); out.EndList(); out.EndDict(); out.Finish()
class PickleWriter {
 public:
  PickleWriter();
  void BeginDict();
  void EndDict();
  void BeginList();
  void EndList();
  void Key(std::string_view key) { String(key); }
  void String(std::string_view text);
  void Int(int64_t value);
  void Bool(bool value);
  void Float(double value);
  void Pair(int64_t first, int64_t second);  // a tuple
  // The pickle, whole.
  std::string Finish();

 private:
  std::string bytes_;
};

}  // namespace tidemark
