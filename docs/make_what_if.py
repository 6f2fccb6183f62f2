#!/usr/bin/env python3
"""Writes docs/what-if.md from what `tidemark compare` says: make_what_if.py [--check]; TIDEMARK names the program.

With --check nothing is written: the exit code says whether the page is what the program says today."""
import json
import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
PROGRAM = os.environ.get("TIDEMARK", str(SOURCE / "build/release/tidemark"))
PAGE = SOURCE / "docs/what-if.md"
EAGER = "configs/runs/nanogpt-30m-rtx4070-eager.yaml"
COMPILED = "configs/runs/nanogpt-30m-rtx4070.yaml"
STEPS = "training.steps=7"  # as many as were recorded
FIRST_RUN = "training.compile=first-run"

ALL = ("training.micro_batch=8,training.sequence=256,model.context=256,training.gradient_accumulation=8,"
       "passes.recompute.policy=full")
RECORDED = [
    ("batch 8", "training.micro_batch=8"),
    ("length 256", "training.sequence=256,model.context=256"),
    ("accumulation 8, batch 16", "training.gradient_accumulation=8"),
    ("accumulation 8, batch 8", "training.gradient_accumulation=8,training.micro_batch=8"),
    ("checkpointing each block", "passes.recompute.policy=full"),
    ("batch 8, length 256, accumulation 8, checkpointing", ALL),
    ("fp32", "training.precision=fp32"),
    ("expandable segments", "allocator.conf=expandable_segments:True"),
    ("batch 32", "training.micro_batch=32"),
    ("dropout 0.2", "model.dropout=0.2"),
    ("no evaluation before training", "training.evaluation=null"),
]
PASSES = [
    ("fusion of pointwise ops and reductions", "fuse: {}"),
    ("fused cross-entropy", "recompute: {policy: selective, ops: [_log_softmax, _to_copy]}}, {fuse: {}"),
    ("chunked loss, 4 chunks", "chunk_loss: {chunks: 4}"),
    ("chunked loss, 16 chunks", "chunk_loss: {chunks: 16}"),
    ("chunked loss, logits no larger than the head's input", "chunk_loss: {}"),
    ("chunked loss, 16 chunks, and fusion", "chunk_loss: {chunks: 16}}, {fuse: {}"),
    ("chunked loss, 16 chunks, and checkpointing", "recompute: {policy: full}}, {chunk_loss: {chunks: 16}"),
    ("checkpoints around three blocks each", "recompute: {policy: every-n, blocks: 3}"),
    ("recompute gelu and layer norms", "recompute: {policy: selective, ops: [gelu, native_layer_norm]}"),
    ("recompute all but products and attention", "recompute: {policy: min-cut}"),
    ("micro-batches of 8 instead of 16", "accumulate: {parts: 2}"),
    ("micro-batches of 4 instead of 16", "accumulate: {parts: 4}"),
    ("activations offloaded", "offload: {what: activations}"),
    ("optimizer state offloaded", "offload: {what: optimizer-state}"),
]
BF16 = "training.precision=amp-bf16,training.grad_clip=0"
BF16_PASSES = [
    ("chunked loss, 16 chunks", "chunk_loss: {chunks: 16}"),
    ("fused linear cross-entropy, 16 chunks", "chunk_loss: {chunks: 16, gradient_early: true}"),
    ("optimizer step in backward", "optimizer_in_backward: {}"),
]
BUDGETS = ["8GiB", "7GiB", "6.5GiB"]
CHUNKED_BUDGETS = ["1500MiB", "1300MiB", "1150MiB", "1050MiB"]


def compare(config, variants, *sets, flags=()):
    """The comparison as JSON, with the labels for names."""
    command = [PROGRAM, "compare", config, "--json", "-q", *flags, *(f"--set={s}" for s in sets)]
    for _, settings in variants:
        command += ["--with", settings]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SOURCE)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    table = json.loads(done.stdout)
    table["base"]["name"] = "as given"
    for row, (label, _) in zip(table["variants"], variants):
        if "impossible" in row:
            raise SystemExit(f"{label}: {row['impossible']}")
        row["name"] = label
    return table


def mib(count, digits=0):
    return f"{count / 2**20:.{digits}f}"


def change(row, base, key):
    difference = (row["peak"][key] - base["peak"][key]) / 2**20
    return "" if abs(difference) < 0.5 else f" ({difference:+.0f})"


def rows_of(table, extra=None, reserved=()):
    """A Markdown table. `reserved`: headings and tables whose reserved bytes are more columns."""
    base = table["base"]
    lines = ["| variant | allocated | reserved | process |" + "".join(f" {heading} |" for heading, _ in reserved) +
             " on 12282 MiB | ms a step | time a token |" + (f" {extra[0]} |" if extra else ""),
             "|---|--:|--:|--:|" + "--:|" * len(reserved) + "---|--:|--:|" + ("---|" if extra else "")]
    for row in [base, *table["variants"]]:
        peak = row["peak"]
        token = ""
        if row is not base:
            base_token = base["time"]["step_us"] / tokens(base)
            token = f"{100 * (row['time']['step_us'] / tokens(row) / base_token - 1):+.1f} %"
        cells = [row["name"], mib(peak["allocated_bytes"]) + change(row, base, "allocated_bytes"),
                 mib(peak["reserved_bytes"]) + change(row, base, "reserved_bytes"), mib(peak["process_bytes"]),
                 *(mib(find(other, row["name"])["peak"]["reserved_bytes"]) for _, other in reserved),
                 "fits" if row["fits"] else "out of memory", f"{row['time']['step_us'] / 1e3:.1f}", token]
        if extra:
            cells.append("" if row is base else extra[1](row))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tokens(row):
    training = row["config"]["training"]
    length = training["sequence"]
    if isinstance(length, list):
        length = sum(length) / len(length)
    return training["micro_batch"] * training["gradient_accumulation"] * length


def effects(row):
    """What the passes of a row did to live bytes and to traffic, one behind the other."""
    words = []
    for step in row["passes"]:
        live = (step["live_bytes_after"] - step["live_bytes_before"]) / 2**20
        traffic = 100 * (step["traffic_bytes_after"] / step["traffic_bytes_before"] - 1)
        words.append(f"{step['pass']}: {live:+.0f} MiB live, {traffic:+.0f} % traffic")
    return "; ".join(words)


def find(table, name):
    return next(row for row in [table["base"], *table["variants"]] if row["name"] == name)


def category(row, name):
    return next(c["bytes"] for c in row["breakdown_at_peak"] if c["category"] == name)


def breakdown(rows):
    """Categories at the peak, a column for each row."""
    names = [c["category"] for c in rows[0]["breakdown_at_peak"] if any(category(r, c["category"]) >= 2**20 for r in rows)]
    lines = ["| MiB at the peak | " + " | ".join(r["name"] for r in rows) + " |", "|---|" + "--:|" * len(rows)]
    for name in names:
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(mib(category(r, name), 1) for r in rows) + " |")
    lines.append("| all | " + " | ".join(mib(r["peak"]["allocated_bytes"], 1) for r in rows) + " |")
    return "\n".join(lines)


def note_of(row, name):
    return next(step["notes"][0] for step in row["passes"] if step["pass"] == name)


def with_passes(entries, more=""):
    return [(label, (more + "," if more else "") + "passes=[{" + passes + "}]") for label, passes in entries]


def page():
    eager = compare(EAGER, RECORDED, STEPS)
    compiled = compare(COMPILED, RECORDED, STEPS)
    first = compare(COMPILED, RECORDED, STEPS, FIRST_RUN)
    in_turn = compare(COMPILED, RECORDED, STEPS, FIRST_RUN, flags=["--share-cache"])
    passes = compare(EAGER, with_passes(PASSES), STEPS)
    bf16 = compare(EAGER, with_passes(BF16_PASSES), STEPS, *BF16.split(","))
    budgets = compare(EAGER, with_passes([(f"recompute within {b}", "recompute: {policy: budget, budget: " + b + "}")
                                          for b in BUDGETS]), STEPS)
    chunked = compare(EAGER, with_passes([(f"and recompute within {b}", "chunk_loss: {chunks: 16}}, {recompute: {policy: budget, "
                                           "budget: " + b + "}") for b in CHUNKED_BUDGETS]),
                      STEPS, "passes=[{chunk_loss: {chunks: 16}}]")
    base = eager["base"]
    more = find(eager, "accumulation 8, batch 16")
    fewer = find(eager, "accumulation 8, batch 8")
    checkpointed = find(eager, "checkpointing each block")
    loss = category(base, "logits_and_loss")
    saved = base["peak"]["allocated_bytes"] - checkpointed["peak"]["allocated_bytes"]
    return f"""# What if

One run and what would change it: nanoGPT's train.py with 6 layers, hidden 384, 6 heads, vocabulary 50304, batch 16,
length 512, fp16 with a GradScaler, fused AdamW, accumulation 4, on an RTX 4070 of 12282 MiB. Made by
`docs/make_what_if.py` from what `tidemark compare` says; all memory in MiB. Process: reserved and 200 MiB for the CUDA
context and modules, -40 to +100. The first two tables have been recorded with PyTorch 2.14 under a phantom GPU;
`tests/tools/what_if_cli_test.py` holds them against the recorded figures.

```
tidemark compare {EAGER} --with training.micro_batch=8 --with passes.recompute.policy=full
```

## Eager

{rows_of(eager)}

## Compiled (torch.compile)

Allocated, reserved and process: later runs, whose compile cache is filled. First run: what is reserved with an empty
compile cache, since kernels are tuned. In turn: the same with one cache for all rows, from top to bottom, as
`tidemark compare --share-cache` has it and as people try variants: a kernel that a row above has tuned isn't tuned again.

{rows_of(compiled, reserved=[("first run", first), ("in turn", in_turn)])}

## Why accumulation alone changes nothing

{more["explanation"][0].upper() + more["explanation"][1:]}.

{breakdown([base, more, fewer])}

Only a smaller micro-batch shrinks what a micro-step holds. To keep the number of sequences of a step, more micro-steps
then make up for it; that is what `accumulate` does:

{rows_of({"base": base, "variants": [find(passes, "micro-batches of 8 instead of 16"), find(passes, "micro-batches of 4 instead of 16")]})}

## Why checkpointing saves little here

The peak lies in {base["peak"]["at"]["op"]}, in the loss: {mib(loss)} of {mib(base["peak"]["allocated_bytes"])} MiB are logits and their
gradients ({mib(base["largest_at_peak"][0]["bytes"])} MiB for each fp32 copy of {base["largest_at_peak"][0]["shape"]}). Checkpoints drop what blocks
save, {mib(category(base, "activations"))} MiB, and bring the peak down by {mib(saved)} MiB; the loss they don't touch.

{breakdown([base, checkpointed, find(passes, "chunked loss, 16 chunks"), find(passes, "chunked loss, 16 chunks, and checkpointing")])}

Once the loss comes in chunks, checkpoints count.

## What each pass would do

Nobody has recorded these: they are other programs than PyTorch's. Each has been executed on the host (smaller models, same
passes): loss and gradients stay the same. `live` is the highest sum of live bytes, `traffic` what kernels read and write.

{rows_of(passes, ("effect", effects))}

With bf16 and no clipping, as some passes need (gradients can't wait for a scaler or a norm):

{rows_of(bf16, ("effect", effects))}

## Within a budget

The fastest plan whose reserved memory, fragmentation included, stays within the budget:

{rows_of(budgets, ("plan", lambda row: note_of(row, "recompute")))}

Behind a chunked loss (16 chunks) blocks are where the memory is, and recomputing pays:

{rows_of(chunked, ("plan", lambda row: note_of(row, "recompute")))}

## What the times are worth

Each kernel takes as long as its arithmetic or its traffic at the device's peak rates (NVIDIA's figures, in
`configs/devices/rtx4070.yaml`), and never less than 2 microseconds; offloading pays 25 GB/s for each way, as if nothing ran meanwhile.
That is a lower bound. Real kernels reach 60 to 90 % of either peak, alike before and after a rewriting: good enough to
rank plans, not to predict a wall clock.
"""


def main():
    text = page()
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == text else "docs/what-if.md isn't what the program says")
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
