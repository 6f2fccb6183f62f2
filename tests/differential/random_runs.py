#!/usr/bin/env python3
"""Writes random run files: random_runs.py --seed N --count K --out DIR.

Each is a small run (milliseconds to simulate) of one of the families with random widths, lengths, heads, precision,
attention, optimizer, checkpoints and loop; with --compiled, one under torch.compile. With --tidemark PROGRAM, `PROGRAM validate RUN --backend pytorch` compares
each with the installed PyTorch, event by event; exit code 1 where one differs, 3 where there is no PyTorch.
"""
import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path

FAMILIES = ["gpt2", "gpt2-transformers", "llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "phi3", "gpt_neox", "opt", "bert", "t5"]
GROUPED = {"llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "phi3"}
BIASED = {"gpt2", "llama", "qwen3"}
DEVICES = ["rtx4070", "rtx6000ada", "a100-80gb"]


def random_model(r, family):
    nanogpt = family == "gpt2"
    heads = r.choice([1, 2, 3, 4, 6, 8, 12])
    head_dim = r.choice([8, 16, 24, 32, 40, 64, 80, 96, 128])
    model = {
        "family": family.removesuffix("-transformers"),
        "implementation": "nanogpt" if nanogpt else "transformers",
        "layers": r.randint(1, 4),
        "hidden": heads * head_dim,
        "heads": heads,
        "vocab": r.choice([257, 1000, 4096, 32000, 50257, 50304, 65537]),
        "context": r.choice([16, 64, 128, 256, 512, 1024]),
        "dropout": r.choice([0.0, 0.0, 0.1]),
        "tied_embeddings": r.random() < 0.5,
    }
    if nanogpt:
        model["tied_embeddings"] = True
    if model["family"] in BIASED and r.random() < 0.5:
        model["bias"] = True
    if family in GROUPED:
        model["kv_heads"] = r.choice([k for k in range(1, heads + 1) if heads % k == 0])
    if family in {"llama", "mistral", "qwen3", "gemma"} and r.random() < 0.3:
        model["head_dim"] = r.choice([16, 32, 64, 128])
    elif family in {"qwen3", "gemma", "mistral"}:
        model["head_dim"] = head_dim
    if not nanogpt and r.random() < 0.25:
        model["use_cache"] = True
    if not nanogpt and r.random() < 0.5:
        model["ffn"] = r.choice([2, 3, 4]) * model["hidden"] + r.choice([0, 8])
    return model


def random_training(r, model):
    context = model["context"]
    nanogpt = model["implementation"] == "nanogpt"
    lengths = [context, max(1, context // 2), max(1, context - 3), r.randint(1, context)]
    training = {
        "micro_batch": r.choice([1, 1, 2, 3, 4, 7, 8, 16]),
        "sequence": r.choice([context, lengths[r.randint(0, 3)], r.sample(lengths, r.randint(1, 3))]),
        "gradient_accumulation": r.choice([1, 1, 2, 3]),
        "precision": r.choice(["fp32", "amp-fp16", "amp-bf16", "bf16", "fp16"]),
        "attention": r.choice(["auto", "auto", "auto", "efficient", "math", "eager"]),
        "optimizer": random_optimizer(r),
        "grad_clip": r.choice([0.0, 1.0]),
        "steps": r.choice([1, 2, 3]),
        "loop": r.choice(["nanogpt", "plain"]) if nanogpt else "plain",
    }
    if nanogpt:
        training["loop"] = "nanogpt"
    if r.random() < 0.3:
        training["evaluation"] = {"every": r.choice([1, 2]), "batches": r.choice([1, 2])}
    return training


def random_optimizer(r):
    name = r.choice(["adamw", "adamw", "adam", "sgd", "rmsprop", "adagrad", "adafactor"])
    ways = ["foreach", "for-loop"] + (["fused"] if name not in {"rmsprop", "adafactor"} else [])
    optimizer = {"name": name, "implementation": r.choice(ways)}
    if name in {"sgd", "rmsprop"} and r.random() < 0.6:
        optimizer["momentum"] = 0.9
    if name == "sgd" and "momentum" in optimizer and r.random() < 0.4:
        optimizer["nesterov"] = True
    if r.random() < 0.3:
        optimizer["weight_decay"] = r.choice([0.0, 0.01])
    return optimizer


def random_compiled_run(seed):
    """nanoGPT's GPT-2 or Llama under nanoGPT's loop: what compiled runs are predicted for event by event."""
    r = random.Random(seed)
    family = r.choice(["gpt2", "llama"])
    head_dim = r.choice([32, 40, 48, 64, 80, 96, 128])
    heads = r.choice([h for h in (1, 2, 3, 4, 5, 6, 8) if h * head_dim <= 512])
    hidden = heads * head_dim
    context = r.choice([16, 32, 64, 77, 100, 128, 256, 333, 512, 1024])
    model = {
        "family": family,
        "layers": r.randint(1, 4),
        "hidden": hidden,
        "heads": heads,
        "vocab": r.choice([257, 512, 1000, 1009, 4096, 12007, 32000, 50257, 50304]),
        "context": context,
        "bias": r.random() < 0.4,
        "tied_embeddings": r.random() < 0.7,
        "dropout": r.choice([0.0, 0.0, 0.1, 0.2]) if family == "gpt2" else 0.0,
    }
    if family == "llama":
        model["kv_heads"] = r.choice([k for k in range(1, heads + 1) if heads % k == 0])
        model["ffn"] = r.choice([2 * hidden, 8 * hidden // 24 * 8, 3 * hidden + 8, 688])
    lengths = [context, max(2, context // 2), max(2, context - 3), r.randint(2, context)]
    training = {
        "micro_batch": min(r.choice([1, 1, 2, 3, 4, 5, 7, 8, 12, 16]), max(1, 8192 // context)),
        "sequence": [r.choice(lengths) for _ in range(r.randint(2, 4))] if r.random() < 0.3 else r.choice(lengths),
        "gradient_accumulation": r.choice([1, 1, 1, 2, 3]),
        "precision": r.choice(["fp32", "amp-fp16", "amp-bf16", "amp-bf16", "bf16"]),
        "optimizer": {"name": "adamw", "implementation": r.choice(["fused", "foreach"])},
        "grad_clip": r.choice([0.0, 1.0]),
        "steps": r.choice([2, 3]),
        "loop": "nanogpt",
        "compile": True,
    }
    if r.random() < 0.4:
        training["evaluation"] = {"every": r.choice([1, 2]), "batches": r.choice([1, 2])}
    run = {"framework": "pytorch-2.14", "model": model, "training": training, "device": r.choice(DEVICES)}
    if r.random() < 0.25:
        run["passes"] = [{"recompute": {"policy": "full"}}]
    return run


def random_run(seed, families):
    r = random.Random(seed)
    model = random_model(r, r.choice(families))
    training = random_training(r, model)
    run = {"framework": "pytorch-2.14", "model": model, "training": training, "device": r.choice(DEVICES)}
    if r.random() < 0.3:
        run["passes"] = [{"recompute": {"policy": "full", "reentrant": r.random() < 0.5}}]
    return run


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=10)
    p.add_argument("--families", default=",".join(FAMILIES))
    p.add_argument("--compiled", action="store_true", help="runs under torch.compile, GPT-2 and Llama")
    p.add_argument("--out", required=True)
    p.add_argument("--tidemark")
    a = p.parse_args()
    failed = 0
    environment = dict(os.environ)
    if a.compiled:
        caches = Path(a.out).absolute() / "caches"
        environment.update(TORCHINDUCTOR_CACHE_DIR=str(caches / "inductor"), TRITON_CACHE_DIR=str(caches / "triton"),
                           TORCHINDUCTOR_FX_GRAPH_CACHE="0", TORCHINDUCTOR_AUTOGRAD_CACHE="0")
    Path(a.out).mkdir(parents=True, exist_ok=True)
    for seed in range(a.seed, a.seed + a.count):
        run = random_compiled_run(seed) if a.compiled else random_run(seed, a.families.split(","))
        path = Path(a.out, f"run-{seed}.yaml")
        path.write_text(json.dumps(run, indent=1) + "\n")
        if not a.tidemark:
            continue
        for _ in range(2 if a.compiled else 1):  # the first of two times kernels, the second finds what it chose
            done = subprocess.run([a.tidemark, "validate", path, "--backend", "pytorch"], capture_output=True, text=True,
                                  env=environment)
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        print(f"{path.name} {run['model']['family']}: {' '.join(last)}", flush=True)
        if done.returncode == 3:
            return 3
        failed += done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
