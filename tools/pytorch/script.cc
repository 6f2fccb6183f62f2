#include "tools/pytorch/script.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace tidemark {
namespace {

constexpr const char* kFile = R"python(#!/usr/bin/env python3
"""{title}

A training run as a plain PyTorch program. Run it on the GPU in question with PyTorch {version}:

    python run.py run        # writes run.pickle and run.json, prints the peaks
    tidemark validate CONFIG --backend pytorch --recording run.pickle

run.pickle is PyTorch's memory snapshot with the history of all allocations (it opens at https://pytorch.org/memory_viz too).
What is trained is random: tokens decide no sizes.
"""
import contextlib
import json
import os
import pickle
import sys

{environment}import torch
{definition}
)python";

// Adds lines, indented: what a program is put together from.
class Lines {
 public:
  void Indent() { ++depth_; }
  void Outdent() { --depth_; }
  template <typename... T>
  void Add(fmt::format_string<T...> format, T&&... values) {
    text_ += std::string(static_cast<size_t>(depth_) * 4, ' ') + fmt::format(format, std::forward<T>(values)...) + "\n";
  }
  void Blank() { text_ += "\n"; }
  // Several lines, each ended by a newline.
  void AddBlock(std::string_view block) {
    while (!block.empty()) {
      const size_t end = block.find('\n');
      const std::string_view line = block.substr(0, end);
      if (line.empty()) {
        Blank();
      } else {
        Add("{}", line);
      }
      block.remove_prefix(std::min(end, block.size() - 1) + 1);
    }
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  int depth_ = 0;
};

const char* ClassOf(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kAdamw:
      return "AdamW";
    case OptimizerKind::kAdam:
      return "Adam";
    case OptimizerKind::kSgd:
      return "SGD";
    case OptimizerKind::kRmsprop:
      return "RMSprop";
    case OptimizerKind::kAdagrad:
      return "Adagrad";
    case OptimizerKind::kAdafactor:
      return "Adafactor";
  }
  return "";
}

const char* PythonBool(bool value) { return value ? "True" : "False"; }

class Program {
 public:
  explicit Program(const RunConfig& run)
      : run_(run),
        t_(run.training),
        model_(run.model.implementation == Implementation::kNanogpt ? NanogptScript(run) : TransformersScript(run)),
        called_(t_.compile == CompileMode::kOff ? "model" : "compiled_model"),
        nanogpt_(t_.loop == Loop::kNanogpt),
        scaled_(t_.precision == Precision::kAmpFp16) {}

  std::string Write(const std::string& title) {
    WriteSettings();
    WriteBatches();
    if (t_.evaluation) WriteEvaluation();
    WriteTraining();
    WriteEnd();
    std::string environment;
    if (!run_.allocator.conf.empty()) {
      environment = fmt::format("os.environ[\"PYTORCH_CUDA_ALLOC_CONF\"] = \"{}\"  # read when PyTorch is imported\n\n",
                                run_.allocator.conf);
    }
    return fmt::format(fmt::runtime(kFile), fmt::arg("title", title), fmt::arg("version", run_.framework.substr(8)),
                       fmt::arg("environment", environment), fmt::arg("definition", model_.definition)) +
           lines_.text();
  }

 private:
  void WriteSettings() {
    lines_.Add("VOCAB, BATCH, ACCUMULATION, STEPS = {}, {}, {}, {}", run_.model.vocab, t_.micro_batch,
               t_.gradient_accumulation, t_.steps);
    if (t_.sequence.size() == 1) {
      lines_.Add("LENGTH = {}", t_.sequence[0]);
    } else {
      lines_.Add("LENGTHS = [{}]  # each for ACCUMULATION batches, in turn", fmt::join(t_.sequence, ", "));
    }
    lines_.Blank();
    const bool alone = t_.attention == AttentionChoice::kFlash || t_.attention == AttentionChoice::kEfficient ||
                       t_.attention == AttentionChoice::kMath;
    if (alone) {
      lines_.Add("torch.backends.cuda.enable_flash_sdp({})", PythonBool(t_.attention == AttentionChoice::kFlash));
      lines_.Add("torch.backends.cuda.enable_mem_efficient_sdp({})",
                 PythonBool(t_.attention == AttentionChoice::kEfficient));
      lines_.Add("torch.backends.cuda.enable_math_sdp({})", PythonBool(t_.attention == AttentionChoice::kMath));
      lines_.Add("torch.backends.cuda.enable_cudnn_sdp(False)");
    }
    lines_.AddBlock(
        "torch.backends.cuda.matmul.allow_tf32 = True\n"
        "torch.backends.cudnn.allow_tf32 = True\n"
        "torch.cuda.memory._record_memory_history(context=\"alloc\", stacks=\"all\" if sys.platform == \"linux\" else "
        "\"python\")\n"
        "torch.manual_seed(1337)\n"
        "generator = torch.Generator().manual_seed(1337)\n");
    if (t_.sequence.size() > 1) lines_.Add("batches_taken = 0");
    lines_.Blank();
    const bool amp = t_.precision == Precision::kAmpFp16 || t_.precision == Precision::kAmpBf16;
    lines_.AddBlock("\ndef autocast():\n");
    lines_.Indent();
    if (amp) {
      lines_.Add("return torch.autocast(\"cuda\", dtype=torch.{})", scaled_ ? "float16" : "bfloat16");
    } else {
      lines_.Add("return contextlib.nullcontext()");
    }
    lines_.Outdent();
    lines_.Blank();
  }

  void WriteBatches() {
    const bool varying = t_.sequence.size() > 1;
    lines_.AddBlock(
        "\ndef tokens(length):\n"
        "    return torch.randint(VOCAB, (BATCH, length), generator=generator)\n\n");
    if (varying) {
      lines_.AddBlock(
          "\ndef next_length():\n"
          "    global batches_taken\n"
          "    batches_taken += 1\n"
          "    return LENGTHS[(batches_taken - 1) // ACCUMULATION % len(LENGTHS)]\n\n");
    }
    lines_.AddBlock("\ndef next_batch():\n");
    lines_.Indent();
    if (varying) lines_.Add("length = next_length()");
    const char* length = varying ? "length" : "LENGTH";
    if (nanogpt_) {
      lines_.Add("x, y = tokens({}), tokens({})", length, length);
      lines_.Add(
          "return x.pin_memory().to(\"cuda\", non_blocking=True), y.pin_memory().to(\"cuda\", non_blocking=True)");
    } else {
      lines_.Add("on_host = tokens({})", length);
      lines_.Add("return {{\"input_ids\": on_host.to(\"cuda\"), \"labels\": on_host.clone().to(\"cuda\")}}");
    }
    lines_.Outdent();
    lines_.Blank();
    WriteForward();
  }

  // forward(batch): the model's outputs, as the loop names them.
  void WriteForward() {
    const bool tuple = run_.model.implementation == Implementation::kNanogpt;
    if (nanogpt_ && !tuple) {
      lines_.AddBlock("\ndef forward(x, y):\n");
      lines_.Add("    outputs = {}(input_ids=x, labels=y)", called_);
      lines_.AddBlock("    return outputs.logits, outputs.loss\n\n");
    } else if (!nanogpt_ && tuple) {
      lines_.AddBlock(
          "\nclass Outputs:\n"
          "    def __init__(self, logits, loss):\n"
          "        self.loss, self.logits = loss, logits\n\n"
          "\ndef forward(input_ids, labels):\n");
      lines_.Add("    return Outputs(*{}(input_ids, labels))", called_);
      lines_.Blank();
    }
  }

  std::string Forward() const {
    const bool tuple = run_.model.implementation == Implementation::kNanogpt;
    const char* callee = nanogpt_ == tuple ? called_ : "forward";
    return nanogpt_ ? fmt::format("logits, loss = {}(x, y)", callee) : fmt::format("outputs = {}(**batch)", callee);
  }

  void WriteEvaluation() {
    lines_.AddBlock(nanogpt_ ? "\n@torch.no_grad()\ndef evaluate():\n" : "\ndef evaluate():\n");
    lines_.Indent();
    lines_.Add("model.eval()");
    lines_.Add("for _ in range({}):", t_.evaluation->batches);
    lines_.Indent();
    if (nanogpt_) {
      lines_.Add("x, y = next_batch()");
      lines_.Add("with autocast():");
    } else {
      lines_.Add("batch = next_batch()");
      lines_.Add("with torch.no_grad(), autocast():");
    }
    lines_.Add("    {}", Forward());
    lines_.Add("{}", nanogpt_ ? "loss.item()" : "outputs.loss.item()");
    lines_.Outdent();
    lines_.Add("model.train()");
    lines_.Outdent();
    lines_.Blank();
  }

  void WriteTraining() {
    lines_.AddBlock("\nout_of_memory = None\ntry:\n");
    lines_.Indent();
    lines_.AddBlock(model_.construction);
    lines_.Add("model.to(\"cuda\")");
    if (scaled_) lines_.Add("scaler = torch.amp.GradScaler(\"cuda\")");
    WriteOptimizer();
    if (t_.compile != CompileMode::kOff) lines_.Add("compiled_model = torch.compile(model)");
    lines_.Add("model.train()");
    if (nanogpt_) lines_.Add("x, y = next_batch()");
    lines_.Add("for step in range(STEPS):");
    lines_.Indent();
    if (t_.evaluation) {
      lines_.Add("if step % {} == 0:", t_.evaluation->every);
      lines_.Add("    evaluate()");
    }
    WriteMicroSteps();
    WriteUpdate();
    lines_.Outdent();
    lines_.Outdent();
    lines_.Add("except torch.OutOfMemoryError as error:");
    lines_.Add("    out_of_memory = str(error)");
    lines_.Blank();
  }

  void WriteOptimizer() {
    const OptimizerConfig& o = t_.optimizer;
    std::string how = o.implementation == OptimizerImplementation::kFused     ? "fused=True"
                      : o.implementation == OptimizerImplementation::kForeach ? "foreach=True"
                                                                              : "foreach=False";
    const bool knows_fused = o.kind != OptimizerKind::kAdafactor && o.kind != OptimizerKind::kRmsprop;
    if (o.implementation == OptimizerImplementation::kForLoop && knows_fused) {
      how += ", fused=False";
    }
    if (o.momentum != 0) how += fmt::format(", momentum={}", o.momentum);
    if (o.nesterov) how += ", nesterov=True";
    if (nanogpt_) {  // matrices decay, vectors don't
      lines_.Add("parameters = [p for p in model.parameters() if p.requires_grad]");
      lines_.Add("groups = [{{\"params\": [p for p in parameters if p.dim() >= 2], \"weight_decay\": {}}},",
                 o.kind == OptimizerKind::kSgd ? "0.0" : "0.1");
      lines_.Add("          {{\"params\": [p for p in parameters if p.dim() < 2], \"weight_decay\": 0.0}}]");
    } else if (o.weight_decay) {
      how += fmt::format(", weight_decay={}", *o.weight_decay);
    }
    lines_.Add("optimizer = torch.optim.{}({}, lr=1e-4, {})", ClassOf(o.kind),
               nanogpt_ ? "groups" : "model.parameters()", how);
  }

  void WriteMicroSteps() {
    const char* backward = scaled_ ? "scaler.scale(loss).backward()" : "loss.backward()";
    lines_.Add("for _ in range(ACCUMULATION):");
    lines_.Indent();
    if (!nanogpt_) lines_.Add("batch = next_batch()");
    lines_.Add("with autocast():");
    lines_.Add("    {}", Forward());
    lines_.Add("    loss = {} / ACCUMULATION", nanogpt_ ? "loss" : "outputs.loss");
    if (nanogpt_) lines_.Add("x, y = next_batch()  # the next one, while the device is busy");
    lines_.Add("{}", backward);
    lines_.Outdent();
  }

  void WriteUpdate() {
    if (t_.grad_clip > 0) {
      if (scaled_) lines_.Add("scaler.unscale_(optimizer)");
      lines_.Add("torch.nn.utils.clip_grad_norm_(model.parameters(), {})", t_.grad_clip);
    }
    if (scaled_) {
      lines_.Add("scaler.step(optimizer)");
      lines_.Add("scaler.update()");
    } else {
      lines_.Add("optimizer.step()");
    }
    lines_.Add("optimizer.zero_grad(set_to_none=True)");
    lines_.Add("loss.item()");
  }

  void WriteEnd() {
    lines_.AddBlock(
        "name = sys.argv[1] if len(sys.argv) > 1 else \"run\"\n"
        "statistics = torch.cuda.memory_stats()\n"
        "with open(name + \".pickle\", \"wb\") as file:\n"
        "    pickle.dump(torch.cuda.memory._snapshot(), file)\n"
        "properties = torch.cuda.get_device_properties(0)\n"
        "device = {\"name\": properties.name, \"total_memory\": properties.total_memory,\n"
        "          \"compute_capability\": properties.major * 10 + properties.minor,\n"
        "          \"multiprocessors\": properties.multi_processor_count}\n"
        "with open(name + \".json\", \"w\") as file:\n"
        "    json.dump({\"torch\": torch.__version__, \"cuda\": torch.version.cuda, \"device\": device, "
        "\"statistics\": statistics,\n"
        "               \"out_of_memory\": out_of_memory}, file, indent=1)\n"
        "for kind in (\"requested\", \"allocated\", \"active\", \"reserved\"):\n"
        "    print(f\"{kind}: {statistics[kind + '_bytes.all.peak']} bytes at the peak\")\n"
        "if out_of_memory:\n"
        "    print(out_of_memory)\n");
  }

  const RunConfig& run_;
  const TrainingConfig& t_;
  ModelScript model_;
  const char* called_;  // what is called for a forward pass
  bool nanogpt_;        // the loop
  bool scaled_;
  Lines lines_;
};

}  // namespace

Result<std::string> PyTorchScript(const RunConfig& run, const std::string& title) {
  if (run.allocator.backend != "native") {
    return InvalidInput(fmt::format("allocator.backend \"{}\": PyTorch keeps a history of its native allocator only",
                                    run.allocator.backend));
  }
  if (!run.framework.starts_with("pytorch-")) {
    return InvalidInput(fmt::format("framework \"{}\": a plain script can be written for PyTorch only", run.framework));
  }
  return Program(run).Write(title);
}

}  // namespace tidemark
