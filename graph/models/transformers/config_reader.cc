#include "graph/models/transformers/config_reader.h"

#include <fmt/format.h>

#include <algorithm>

namespace tidemark::transformers {

const ConfigField* ConfigReader::Find(std::string_view key) {
  known_.push_back(key);
  const auto field = std::ranges::find(model_.config, key, &ConfigField::key);
  return field == model_.config.end() ? nullptr : &*field;
}

void ConfigReader::Fail(std::string_view key, std::string_view expected) {
  if (!error_) error_ = InvalidInput(fmt::format("model.config.{} has to be {}", key, expected));
}

void ConfigReader::Bool(std::string_view key, bool* out) {
  const ConfigField* field = Find(key);
  if (field == nullptr) return;
  const bool* value = std::get_if<bool>(&field->value);
  value != nullptr ? void(*out = *value) : Fail(key, "true or false");
}

void ConfigReader::Integer(std::string_view key, int64_t* out, int64_t min) {
  const ConfigField* field = Find(key);
  if (field == nullptr) return;
  const int64_t* value = std::get_if<int64_t>(&field->value);
  value != nullptr&&* value >= min ? void(*out = *value) : Fail(key, fmt::format("a whole number from {} on", min));
}

void ConfigReader::OptionalInteger(std::string_view key, std::optional<int64_t>* out) {
  const ConfigField* field = Find(key);
  if (field == nullptr) return;
  const int64_t* value = std::get_if<int64_t>(&field->value);
  if (std::holds_alternative<std::monostate>(field->value)) {
    out->reset();
  } else if (value != nullptr && *value >= 1) {
    *out = *value;
  } else {
    Fail(key, "a whole number from 1 on, or null");
  }
}

void ConfigReader::Number(std::string_view key, double* out, double min, double max) {
  const ConfigField* field = Find(key);
  if (field == nullptr) return;
  const int64_t* whole = std::get_if<int64_t>(&field->value);
  const double* number = std::get_if<double>(&field->value);
  const double value = whole != nullptr ? static_cast<double>(*whole) : number != nullptr ? *number : min - 1;
  value >= min&& value <= max ? void(*out = value) : Fail(key, fmt::format("a number from {} to {}", min, max));
}

void ConfigReader::Text(std::string_view key, std::string* out) {
  const ConfigField* field = Find(key);
  if (field == nullptr) return;
  const std::string* value = std::get_if<std::string>(&field->value);
  value != nullptr ? void(*out = *value) : Fail(key, "a word");
}

void ConfigReader::Act(std::string_view key, Activation* out) {
  const ConfigField* field = Find(key);
  if (field == nullptr) return;
  const std::string* name = std::get_if<std::string>(&field->value);
  if (name == nullptr) return Fail(key, "the name of an activation");
  const Result<Activation> parsed = ParseActivation(*name, fmt::format("model.config.{}", key));
  if (parsed.ok()) {
    *out = *parsed;
  } else if (!error_) {
    error_ = parsed.error();
  }
}

void ConfigReader::Ignore(std::initializer_list<std::string_view> keys) {
  known_.insert(known_.end(), keys.begin(), keys.end());
}

void ConfigReader::IgnoreCommon() {
  Ignore({"architectures", "bos_token_id", "eos_token_id", "initializer_range", "model_type", "pad_token_id",
          "return_dict", "torch_dtype", "transformers_version"});
}

Status ConfigReader::Finish() {
  if (error_) return *error_;
  for (const ConfigField& field : model_.config) {
    if (std::ranges::find(known_, field.key) != known_.end()) continue;
    std::ranges::sort(known_);
    return InvalidInput(
        fmt::format("model.config: unknown field \"{}\"; known: {}", field.key, fmt::join(known_, ", ")));
  }
  return {};
}

}  // namespace tidemark::transformers
