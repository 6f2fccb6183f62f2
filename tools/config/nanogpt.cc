#include "tools/config/nanogpt.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <sstream>

#include "tools/config/python_value.h"

namespace tidemark {
namespace {

// The globals of train.py that decide memory, with their values there.
const std::map<std::string, PythonValue, std::less<>>& TrainPyDefaults() {
  static const std::map<std::string, PythonValue, std::less<>> kDefaults = {
      {"batch_size", PythonValue(12.0)},     {"block_size", PythonValue(1024.0)},
      {"n_layer", PythonValue(12.0)},        {"n_head", PythonValue(12.0)},
      {"n_embd", PythonValue(768.0)},        {"gradient_accumulation_steps", PythonValue(40.0)},
      {"dropout", PythonValue(0.0)},         {"bias", PythonValue(false)},
      {"dtype", PythonValue("bfloat16")},    {"compile", PythonValue(true)},
      {"init_from", PythonValue("scratch")}, {"dataset", PythonValue("openwebtext")},
      {"eval_iters", PythonValue(200.0)},    {"eval_interval", PythonValue(2000.0)},
      {"grad_clip", PythonValue(1.0)},
  };
  return kDefaults;
}

struct Pretrained {
  std::string_view name;
  int layers, heads, hidden;
};
constexpr Pretrained kPretrained[] = {
    {"gpt2", 12, 12, 768}, {"gpt2-medium", 24, 16, 1024}, {"gpt2-large", 36, 20, 1280}, {"gpt2-xl", 48, 25, 1600}};

struct Assigned {
  PythonValue value;
  std::string place;
};
using Assignments = std::map<std::string, Assigned, std::less<>>;

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

bool IsIdentifier(std::string_view word) {
  const auto letter = [](char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto inner = [&](char c) { return letter(c) || (c >= '0' && c <= '9'); };
  return !word.empty() && letter(word.front()) && std::ranges::all_of(word, inner);
}

Result<Assignments> ReadAssignments(std::string_view text, const std::string& name) {
  Assignments assigned;
  for (const auto& [key, value] : TrainPyDefaults()) assigned[key] = {value, name + ":1"};
  std::istringstream lines{std::string(text)};
  std::string docstring_end;  // inside a docstring: what ends it
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string place = fmt::format("{}:{}", name, ++number);
    const std::string_view statement = Trim(line);
    if (!docstring_end.empty()) {
      if (statement.ends_with(docstring_end)) docstring_end.clear();
      continue;
    }
    if (statement.empty() || statement.front() == '#') continue;
    if (statement.starts_with("import ") || statement.starts_with("from ")) continue;
    if (statement.starts_with("\"\"\"") || statement.starts_with("'''")) {
      const std::string_view quotes = statement.substr(0, 3);
      if (statement.size() < 6 || !statement.ends_with(quotes)) docstring_end = quotes;
      continue;
    }
    const size_t equals = statement.find('=');
    const std::string_view key = equals == std::string_view::npos ? "" : Trim(statement.substr(0, equals));
    if (line.front() == ' ' || line.front() == '\t' || !IsIdentifier(key) ||
        statement.substr(equals).starts_with("==")) {
      return InvalidInput(place + ": only assignments NAME = VALUE are understood; the file isn't executed");
    }
    PythonNames names;
    for (const auto& [known, entry] : assigned) names.emplace(known, entry.value);
    Result<PythonValue> value = EvaluatePython(Trim(statement.substr(equals + 1)), names);
    if (value.ok()) {
      assigned[std::string(key)] = {*std::move(value), place};
    } else if (TrainPyDefaults().contains(key)) {
      return InvalidInput(fmt::format("{}: {}: {}", place, key, value.error().message));
    }
  }
  return assigned;
}

// Builds the run file's tree from the values.
class Writer {
 public:
  Writer(const Assignments& assigned, std::vector<std::string>& notes) : assigned_(assigned), notes_(notes) {}

  Result<DocumentNode> Run() {
    const std::string& top = Of("n_layer").place;
    DocumentNode model = MakeMap(top);
    DocumentNode training = MakeMap(top);
    RETURN_IF_ERROR(WriteModel(model));
    RETURN_IF_ERROR(WriteTraining(training));
    DocumentNode root = MakeMap(top);
    AddField(root, "model", std::move(model));
    AddField(root, "training", std::move(training));
    return root;
  }

 private:
  const Assigned& Of(std::string_view key) const { return assigned_.find(key)->second; }

  // The field `to` as `from` has it: numbers, truth values and words print as YAML does.
  void Put(DocumentNode& map, const char* to, const char* from) {
    AddField(map, to, MakeScalar(Of(from).value.Text(), Of(from).place));
  }
  void PutText(DocumentNode& map, const char* to, std::string text, const std::string& place) {
    AddField(map, to, MakeScalar(std::move(text), place));
  }

  Status WriteModel(DocumentNode& model) {
    const Assigned& start = Of("init_from");
    const std::string from = start.value.Text();
    PutText(model, "family", "gpt2", start.place);
    PutText(model, "implementation", "nanogpt", start.place);
    Put(model, "context", "block_size");
    Put(model, "dropout", "dropout");
    if (from == "scratch" || from == "resume") {
      Put(model, "layers", "n_layer");
      Put(model, "heads", "n_head");
      Put(model, "hidden", "n_embd");
      Put(model, "bias", "bias");
      // nanoGPT's data/shakespeare_char/prepare.py leaves a meta.pkl with 65 characters.
      const bool characters = Of("dataset").value.Text() == "shakespeare_char";
      PutText(model, "vocab", characters ? "65" : "50304", Of("dataset").place);
      notes_.push_back(fmt::format("model.vocab: {}; a dataset with a meta.pkl has its own: --set model.vocab=…",
                                   characters ? 65 : 50304));
      return {};
    }
    const auto known = std::ranges::find(kPretrained, from, &Pretrained::name);
    if (known == std::end(kPretrained)) {
      return InvalidInput(
          fmt::format("{}: unknown init_from \"{}\"; known: scratch, resume, gpt2, gpt2-medium, gpt2-large, gpt2-xl",
                      start.place, from));
    }
    PutText(model, "layers", fmt::format("{}", known->layers), start.place);
    PutText(model, "heads", fmt::format("{}", known->heads), start.place);
    PutText(model, "hidden", fmt::format("{}", known->hidden), start.place);
    PutText(model, "vocab", "50257", start.place);
    PutText(model, "bias", "true", start.place);
    return {};
  }

  Status WriteTraining(DocumentNode& training) {
    static const std::map<std::string, std::string, std::less<>> kPrecisions = {
        {"float32", "fp32"}, {"bfloat16", "amp-bf16"}, {"float16", "amp-fp16"}};
    const Assigned& dtype = Of("dtype");
    const auto precision = kPrecisions.find(dtype.value.Text());
    if (precision == kPrecisions.end()) {
      return InvalidInput(
          fmt::format("{}: unknown dtype \"{}\"; known: float32, bfloat16, float16", dtype.place, dtype.value.Text()));
    }
    Put(training, "micro_batch", "batch_size");
    Put(training, "gradient_accumulation", "gradient_accumulation_steps");
    PutText(training, "precision", precision->second, dtype.place);
    Put(training, "grad_clip", "grad_clip");
    Put(training, "compile", "compile");
    DocumentNode optimizer = MakeMap(dtype.place);
    PutText(optimizer, "name", "adamw", dtype.place);
    PutText(optimizer, "implementation", "fused", dtype.place);
    AddField(training, "optimizer", std::move(optimizer));
    const Assigned& iterations = Of("eval_iters");
    DocumentNode evaluation = MakeMap(iterations.place);
    Put(evaluation, "every", "eval_interval");
    const std::optional<double> splits = iterations.value.number();
    PutText(evaluation, "batches", splits ? PythonValue(*splits * 2).Text() : iterations.value.Text(),
            iterations.place);
    AddField(training, "evaluation", std::move(evaluation));
    notes_.emplace_back("training.steps: 3 of max_iters; memory repeats after the second step");
    return {};
  }

  const Assignments& assigned_;
  std::vector<std::string>& notes_;
};

}  // namespace

Result<DocumentNode> ReadNanogpt(std::string_view text, const std::string& name, std::vector<std::string>& notes) {
  ASSIGN_OR_RETURN(const Assignments assigned, ReadAssignments(text, name));
  return Writer(assigned, notes).Run();
}

}  // namespace tidemark
