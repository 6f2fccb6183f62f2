#!/usr/bin/env python3
"""Trains the runs of this folder in real PyTorch on the CPU and writes what came out: NAME.yaml -> NAME.json.

    ~/.cache/tidemark/torch/bin/python generate_goldens.py [NAME…]

Initial weights and tokens are those of kernels/host_data.h. A golden holds the loss of each micro-step and, for each
step, of every gradient (before clipping and still times the scaler's factor): its 2-norm, its largest magnitude, its
product with a vector of hashed numbers (so that no element can differ unseen), and some elements. NAME.gradients.gz,
where there is one, holds the last step's gradients whole, as 32-bit floats in the order of the parameters.
"""
import argparse
import contextlib
import gzip
import json
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import runs  # noqa: E402

SAMPLES = 24
WHOLE = {"nanogpt-fp32"}  # whose last gradients are kept whole
MASK = (1 << 64) - 1


# --- kernels/host_data.h


def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def seed(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return np.uint64(h)


def hashes(name, indices):
    with np.errstate(over="ignore"):
        return mix(seed(name) + (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


def units(name, n):
    return (hashes(name, np.arange(n)) >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def initial_values(name, tensor):
    unit = units(name, tensor.numel())
    if tensor.dim() >= 2:
        values = 0.05 * unit
    elif name.endswith("weight"):
        values = 1 + 0.1 * unit
    else:
        values = 0.02 * unit
    return torch.from_numpy(values).reshape(tensor.shape).to(tensor.dtype)


def tokens(batch, rows, length, vocab):
    """Tokens and targets."""
    at = np.arange(rows * (length + 1)) + (batch << 32)
    values = (hashes("tokens", at) % np.uint64(vocab)).astype(np.int64).reshape(rows, length + 1)
    return torch.from_numpy(values[:, :-1].copy()), torch.from_numpy(values[:, 1:].copy())


# --- training


class Run:
    def __init__(self, path):
        self.run = runs.load_run(path)
        self.t = t = self.run["training"]
        precision = t["precision"]
        weights = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
        amp = {"amp-fp16": torch.float16, "amp-bf16": torch.bfloat16}.get(precision)
        self.autocast = (lambda: torch.amp.autocast("cpu", dtype=amp)) if amp else contextlib.nullcontext
        nanogpt = self.run["model"]["implementation"] == "nanogpt"
        self.model = (runs.nanogpt_model(self.run, weights) if nanogpt
                      else runs.transformers_model(self.run, weights))
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(initial_values(name, p))
        self.scaler = torch.amp.GradScaler("cpu", enabled=precision == "amp-fp16")
        self.optimizer = runs.make_optimizer(self.run, self.model)
        self.batches = 0

    def forward(self):
        t = self.t
        lengths = t["sequence"] if isinstance(t["sequence"], list) else [t["sequence"]]
        length = lengths[self.batches // t["gradient_accumulation"] % len(lengths)]
        x, y = tokens(self.batches, t["micro_batch"], length, self.run["model"]["vocab"])
        self.batches += 1
        with self.autocast():
            if t["loop"] == "nanogpt":
                _, loss = self.model(x, y)
            else:
                loss = self.model(input_ids=x, labels=x.clone()).loss
            return loss / t["gradient_accumulation"]

    def train(self):
        """Losses by micro-step, gradients by step."""
        losses, gradients = [], []
        self.model.train()
        for _ in range(self.t["steps"]):
            for _ in range(self.t["gradient_accumulation"]):
                loss = self.forward()
                losses.append(loss.item())
                self.scaler.scale(loss).backward()
            gradients.append({n: p.grad.detach().double().numpy().reshape(-1).copy()
                              for n, p in self.model.named_parameters()})
            if self.t["grad_clip"]:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.t["grad_clip"])
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
        return losses, gradients


def summary(name, gradient):
    at = hashes("samples." + name, np.arange(SAMPLES)) % np.uint64(gradient.size)
    return {"norm": float(np.linalg.norm(gradient)), "largest": float(np.abs(gradient).max()),
            "projection": float(gradient @ units("projection." + name, gradient.size)),
            "samples": [float(np.float32(gradient[int(i)])) for i in at]}


def generate(path):
    torch.manual_seed(0)
    losses, gradients = Run(path).train()
    steps = ",\n  ".join("{" + ",\n   ".join(f"{json.dumps(n)}: {json.dumps(summary(n, g))}" for n, g in step.items()) + "}"
                         for step in gradients)
    text = f'{{"torch": {json.dumps(torch.__version__)},\n "losses": {json.dumps(losses)},\n "gradients": [\n  {steps}\n ]}}\n'
    path.with_suffix(".json").write_text(text)
    if path.stem in WHOLE:
        whole = np.concatenate(list(gradients[-1].values())).astype("<f4").tobytes()
        with open(path.with_suffix(".gradients.gz"), "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as f:
            f.write(whole)
    print(f"{path.stem}: losses {losses[0]:.6f} … {losses[-1]:.6f}, {len(text)} bytes")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    torch.set_num_threads(1)
    for path in sorted(HERE.glob("*.yaml")):
        if not a.names or path.stem in a.names:
            generate(path)


if __name__ == "__main__":
    main()
