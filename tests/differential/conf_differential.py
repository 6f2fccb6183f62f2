#!/usr/bin/env python3
"""Random PYTORCH_CUDA_ALLOC_CONF strings, most of them wrong, to PyTorch's own parser and to ours: what each says.

  conf_differential.py [--strings N] [--seed S] [--tidemark PROGRAM]

Needs what allocator_differential.py needs, and says so where it is missing (exit code 77: skipped). Exit code 0: no difference.
"""
import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from allocator_differential import oracle_environment

KEYS = ["max_split_size_mb", "max_non_split_rounding_mb", "garbage_collection_threshold", "roundup_power2_divisions", "expandable_segments",
        "large_segment_size_mb", "per_process_memory_fraction", "throw_on_cudamalloc_oom", "backend", "release_lock_on_cudamalloc",
        "pinned_use_cuda_host_register", "pinned_num_register_threads", "pinned_reserve_segment_size_mb", "pinned_use_background_threads",
        "graph_capture_record_stream_reuse", "expandable_segments_reserve", "pinned_max_cached_size_mb", "pinned_free_catch_all",
        "pinned_max_round_threshold_mb", "foo", ""]
VALUES = ["64", "20", "19", "0", "-1", "1", "3", "0.5", "1.0", "True", "False", "true", "native", "x", "[1:2,>:4]", "[", "[1:3]", "[>:0,2:4]",
          "99999999999999999999", "[]", "1e-400", "12.5", "nan", "0x10", " 64 ", "]", ":", "128", "256", "[3:1]", "[1:2,4:8", "1e400", "inf", "2"]


def random_conf(r):
    pairs = [r.choice(KEYS) + r.choice([":"] * 9 + ["=", ",", ""]) + r.choice(VALUES) for _ in range(r.choice([1, 1, 1, 2, 3]))]
    return ",".join(pairs)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--strings", type=int, default=1000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--tidemark", default="build/release/tidemark")
    a = p.parse_args()
    oracle = oracle_environment()
    if oracle is None:
        return 77
    env, command = oracle
    r = random.Random(a.seed)
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        tape = Path(folder, "tape")
        tape.write_text("a 0 1000\n")
        for _ in range(a.strings):
            conf = random_conf(r)
            real = subprocess.run(command + [tape, "--csv", f"{folder}/rows", "--json", f"{folder}/end"], capture_output=True, text=True,
                                  env=dict(env, PYTORCH_CUDA_ALLOC_CONF=conf, PHANTOM_MEMORY_MIB="1024"))
            ours = subprocess.run([a.tidemark, "replay", tape, "--conf", conf, "--memory", "1024MiB", "--json"], capture_output=True, text=True)
            want = "" if real.returncode == 0 else next((line.split("what():", 1)[1].strip() for line in real.stderr.splitlines()
                                                         if "what():" in line), real.stderr)
            got = "" if ours.returncode in (0, 1) else ours.stderr.strip().removeprefix(f'error: conf "{conf}": ')
            # Assertions put the place in PyTorch's source before their text.
            if (got not in want) if got else want:
                different += 1
                print(f"{conf!r}\n  real: {want[:200]}\n  ours: {got[:200]}", flush=True)
    print(f"{a.strings} strings, {different} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
