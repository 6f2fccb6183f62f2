#include "tools/formats/json_writer.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

namespace tidemark {

void JsonWriter::Separate() {
  if (!first_ && !after_key_) text_ += ',';
  first_ = false;
  after_key_ = false;
}

void JsonWriter::Open(char bracket) {
  Separate();
  text_ += bracket;
  first_ = true;
}

void JsonWriter::Close(char bracket) {
  text_ += bracket;
  first_ = false;
}

void JsonWriter::Key(std::string_view key) {
  String(key);
  text_ += ':';
  after_key_ = true;
}

void JsonWriter::String(std::string_view text) {
  Separate();
  text_ += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void JsonWriter::Int(int64_t value) {
  Separate();
  fmt::format_to(std::back_inserter(text_), "{}", value);
}

void JsonWriter::Bool(bool value) {
  Separate();
  text_ += value ? "true" : "false";
}

void JsonWriter::Float(double value) {
  Separate();
  text_ += nlohmann::json(value).dump();
}

void JsonWriter::Pair(int64_t first, int64_t second) {
  BeginList();
  Int(first);
  Int(second);
  EndList();
}

std::string JsonWriter::Finish() {
  text_ += '\n';
  return std::move(text_);
}

}  // namespace tidemark
