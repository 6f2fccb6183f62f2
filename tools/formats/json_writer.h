// Writes compact JSON piece by piece, with the calls of PickleWriter, so that one function writes both.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tidemark {

class JsonWriter {
 public:
  void BeginDict() { Open('{'); }
  void EndDict() { Close('}'); }
  void BeginList() { Open('['); }
  void EndList() { Close(']'); }
  void Key(std::string_view key);
  void String(std::string_view text);  // bytes that aren't UTF-8 are replaced
  void Int(int64_t value);
  void Bool(bool value);
  void Float(double value);
  void Pair(int64_t first, int64_t second);  // a list of two
  std::string Finish();

 private:
  // A comma, where a value follows another.
  void Separate();
  void Open(char bracket);
  void Close(char bracket);

  std::string text_;
  bool first_ = true;
  bool after_key_ = false;
};

}  // namespace tidemark
