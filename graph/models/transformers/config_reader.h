// Further fields of a family's configuration class ("model.config" of a run file). They override what the run file's
// own keys say, as arguments of the class do.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/base/result.h"
#include "graph/models/transformers/layers.h"
#include "graph/run_config.h"

namespace tidemark::transformers {

constexpr double kLargestDropout = 0.999999;  // below 1

// Each call names one field; where the run file has it, its value goes to `out`. Finish reports the first mistake: a
// value of another type, or a field that nobody named.
class ConfigReader {
 public:
  explicit ConfigReader(const ModelConfig& model) : model_(model) {}

  void Bool(std::string_view key, bool* out);
  void Integer(std::string_view key, int64_t* out, int64_t min = 1);
  void Number(std::string_view key, double* out, double min, double max);
  void OptionalInteger(std::string_view key, std::optional<int64_t>* out);  // null: none
  void Text(std::string_view key, std::string* out);
  void Act(std::string_view key, Activation* out);
  // Fields that decide neither memory nor shapes.
  void Ignore(std::initializer_list<std::string_view> keys);
  // Fields that every configuration class has and that decide nothing here.
  void IgnoreCommon();

  Status Finish();

 private:
  const ConfigField* Find(std::string_view key);
  void Fail(std::string_view key, std::string_view expected);

  const ModelConfig& model_;
  std::vector<std::string_view> known_;
  std::optional<Error> error_;
};

}  // namespace tidemark::transformers
