#!/usr/bin/env python3
"""Random tapes with random options through PyTorch's own caching allocator and through ours: every row, statistic and message.

  allocator_differential.py [--events N] [--seed S] [--tidemark PROGRAM] [--make-tape PROGRAM] [--keep DIR]
                            [--framework NAME --oracle PROGRAM [--no-captures]] [--device BYTES --oracle PROGRAM]

PyTorch's allocator runs on a machine without a GPU under a phantom of one: TIDEMARK_PHANTOM names its folder, with `golden`,
`phantom` and a built `oracle_alloc`; TIDEMARK_TORCH the virtual environment with that PyTorch. Where either is missing, the test
says so and passes (exit code 77: skipped). --oracle is the phantom's oracle_alloc.cpp compiled against another PyTorch's wheel
(its include folder and libc10_cuda.so suffice), --framework our profile of that version. --device runs it on
this machine's GPU instead, whose memory (torch.cuda.mem_get_info()[1]) is BYTES; tapes then stay within a fraction of it. Exit code 0: no difference; 1: differences, which are kept in DIR.
"""
import argparse
import filecmp
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ACCUMULATED = tuple(f"inactive_split{b}.{p}.{w}" for b in ("", "_bytes") for p in ("all", "small_pool", "large_pool")
                    for w in ("allocated", "freed", "peak"))


def oracle_environment(oracle=None):
    """Environment and command of the real allocator, or None."""
    phantom = os.environ.get("TIDEMARK_PHANTOM")
    if not phantom or not Path(phantom, "golden").exists():
        print("SKIPPED: TIDEMARK_PHANTOM names no phantom GPU, so PyTorch's own allocator can't run here")
        return None
    build = Path(phantom, "build")
    if not (build / "lib").is_dir():
        build = Path.home() / ".cache/tidemark/phantom"
    oracle = oracle or build / "oracle_alloc"
    if not oracle.exists():
        with tempfile.TemporaryDirectory() as folder:
            tape = Path(folder, "x.tape")
            tape.write_text("a 0 512\n")
            done = subprocess.run([sys.executable, str(Path(phantom, "golden")), str(tape), "--out", folder], capture_output=True, text=True)
            if done.returncode:
                print(f"SKIPPED: the oracle can't be built: {done.stderr.strip()[-300:]}")
                return None
    env = {k: v for k, v in os.environ.items() if "ALLOC_CONF" not in k}
    env.update(PHANTOM_QUIET="1", PHANTOM_VA_GIB="100000", PHANTOM_LIB=str(build / "lib"))
    return env, [str(Path(phantom, "phantom")), str(oracle)]


def random_conf(r, framework):
    """A conf string, and whether segments are expandable."""
    parts, expandable = [], False
    large = 20
    if r.random() < 0.15:
        large = r.choice([12, 16, 24, 32, 64])
        parts.append(f"large_segment_size_mb:{large}")
    if r.random() < 0.45:
        parts.append(f"max_split_size_mb:{max(large, r.choice([20, 21, 32, 50, 64, 100, 128, 200, 256, 512]))}")
    if r.random() < 0.2:
        parts.append(f"max_non_split_rounding_mb:{max(large, r.choice([20, 24, 40, 50, 128, 300]))}")
    if r.random() < 0.35:
        if r.random() < 0.5:
            parts.append(f"roundup_power2_divisions:{2 ** r.randrange(0, 7)}")
        else:
            keys = sorted(r.sample(range(0, 12), r.randrange(0, 5)))
            entries = [f"{2 ** k}:{r.choice([0, 1, 2, 4, 8, 16, 32])}" for k in keys]
            if r.random() < 0.6:
                entries.insert(r.choice([len(entries), len(entries), r.randrange(len(entries) + 1)]), f">:{r.choice([0, 1, 2, 4, 8])}")
            parts.append(f"roundup_power2_divisions:[{','.join(entries)}]")
    if r.random() < 0.4:
        parts.append(f"garbage_collection_threshold:{r.choice([0.3, 0.5, 0.58, 0.6, 0.7, 0.8, 0.9, 0.95])}")
    if r.random() < 0.35:
        expandable = True
        parts.append("expandable_segments:True")
        if framework == "pytorch-2.15" and r.random() < 0.5:
            parts.append(f"expandable_segments_reserve:{r.choice(['0.1', '0.3', '0.8', '0.2G', '1G', '5', 'x', '1e-3'])}")
    if r.random() < 0.12:
        parts.append(f"per_process_memory_fraction:{round(r.uniform(0.2, 1), 2)}")
    if r.random() < 0.12:
        parts.append("throw_on_cudamalloc_oom:True")
    r.shuffle(parts)
    return ",".join(parts), expandable


def random_case(r, framework):
    conf, expandable = random_conf(r, framework)
    live = int(2 ** r.uniform(6, 13))
    streams = r.choice([1, 1, 1, 2, 2, 3, 4, 6])
    shape = {"events": r.choice([3000, 20000, 60000, 60000, 150000]), "seed": r.randrange(1 << 32), "streams": streams, "live_mib": live,
             "largest_mib": max(1, min(int(live * r.choice([0.02, 0.1, 0.3, 0.6])), 2000)), "record": r.choice([0.05, 0.2, 0.4]),
             "empty": r.choice([0, 0, 0.0005, 0.005]), "synchronize": r.choice([0, 0.001, 0.01])}
    pools = r.random() < 0.3
    if pools:
        shape.update(pools=r.choice([0.002, 0.02]), release_pools=int(not expandable),
                     captures=int(not expandable and streams > 1 and r.random() < 0.4))
    return {"conf": conf, "memory_mib": max(64, int(live * r.choice([0.8, 1.0, 1.1, 1.2, 1.3, 1.5, 2, 4, 8]))),
            "fraction": round(r.uniform(0.3, 1), 3) if r.random() < 0.4 else None, "events": r.choice(["at-once", "lazy"]),
            "kind": r.choice(["training", "random", "random", "random", "nested"]), "shape": shape}


def on_device(case, device_bytes):
    """The case for a real GPU: as much memory as before as a fraction of the device's; no events that are complete sooner or later."""
    fraction = case["memory_mib"] * 2**20 / device_bytes * (case["fraction"] or 1)
    conf = ",".join(part for part in case["conf"].split(",") if not part.startswith("per_process_memory_fraction"))
    return dict(case, conf=conf, fraction=fraction, events="at-once", shape=dict(case["shape"], record=0))


def compare(case, folder, tidemark, make_tape, framework, device_bytes, env, oracle):
    """Returns what differs, or None; and the number of rows."""
    tape, want, got, stats = (str(Path(folder, n)) for n in ("tape", "want.csv", "got.csv", "want.json"))
    subprocess.check_call([make_tape, case["kind"], tape] + [f"{k}={v}" for k, v in case["shape"].items()])
    env = dict(env, PYTORCH_CUDA_ALLOC_CONF=case["conf"], PHANTOM_MEMORY_MIB=str(case["memory_mib"]),
               PHANTOM_EVENTS="lazy" if case["events"] == "lazy" else "")
    fraction = [] if case["fraction"] is None else ["--fraction", repr(case["fraction"])]
    real = subprocess.run(oracle + [tape, "--csv", want, "--json", stats] + fraction, env=env, capture_output=True, text=True)
    ours = subprocess.run([tidemark, "replay", tape, "--framework", framework, "--conf", case["conf"], "--memory",
                           f"{case['memory_mib']}MiB" if device_bytes is None else f"{device_bytes}B", "--events", case["events"], "--placements", got, "--json"] + fraction,
                          capture_output=True, text=True)
    if real.returncode:
        text = [line for line in real.stderr.splitlines() if "what()" in line or "ASSERT" in line or "addresses" in line]
        refused = ours.returncode == 2 and ("PyTorch" in ours.stderr or "may crash" in ours.stderr or
                                            any(line.removeprefix("  what():  ").strip() in ours.stderr for line in text))
        if refused or "addresses used up" in real.stderr:  # of the phantom
            return None, 0
        return f"the real allocator failed: {text[:1]} {real.returncode}; ours says {ours.stderr.strip()[:200]!r}", 0
    if ours.returncode not in (0, 1):
        return f"ours failed: {ours.returncode} {ours.stderr.strip()[:300]}", 0
    # On a device a range that is reserved again can lie where an older one lay, and then has its number.
    anonymous = device_bytes is not None and "expandable_segments" in case["conf"]
    if anonymous or not filecmp.cmp(want, got, shallow=False):
        with open(want) as a, open(got) as b:
            for number, (x, y) in enumerate(itertools.zip_longest(a, b, fillvalue="")):
                if anonymous:
                    x, y = (",".join(row.split(",")[:3] + row.split(",")[4:]) for row in (x, y))
                if x != y:
                    return f"row {number}: real {x.strip()} ours {y.strip()}", 0
    truth = json.loads(Path(stats).read_text())
    report = json.loads(ours.stdout)
    # What waits for the end of a capture is freed in the order of a hash table; before 2.13 an entered pool counts as one.
    waits = case["shape"].get("captures") or (case["shape"].get("pools") and framework in ("pytorch-2.11", "pytorch-2.12"))
    skip = ACCUMULATED if waits else ()
    wrong = {k: (v, report["statistics"].get(k)) for k, v in truth.items()
             if not k.startswith(("oracle.", "phantom.")) and k not in skip and report["statistics"].get(k) != v}
    if wrong:
        return f"statistics: {dict(list(wrong.items())[:4])}", 0
    if device_bytes is not None:  # messages tell what other processes hold
        return None, case["shape"]["events"]
    # The report has the first failure.
    messages = [m["message"] for m in truth["oracle.oom_messages"]][:1]
    failure = report["out_of_memory"]
    if messages != ([failure["message"]] if failure else []):
        return f"messages: {messages} {failure}", 0
    return None, case["shape"]["events"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--events", type=int, default=1_000_000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--tidemark", default="build/release/tidemark")
    p.add_argument("--make-tape", default="build/release/tests/make_tape")
    p.add_argument("--keep", type=Path, default=Path("differential"))
    p.add_argument("--pools-only", action="store_true")
    p.add_argument("--framework", default="pytorch-2.14")
    p.add_argument("--oracle", type=Path)
    p.add_argument("--no-captures", action="store_true", help="for versions to which a capture can't be told from outside")
    p.add_argument("--device", type=int, metavar="BYTES")
    a = p.parse_args()
    oracle = oracle_environment(a.oracle) if a.device is None else (dict(os.environ), [str(a.oracle)])
    if oracle is None:
        return 77
    r = random.Random(a.seed)
    events = cases = different = refused = 0
    begin = time.time()
    while events < a.events:
        case = random_case(r, a.framework)
        if a.pools_only and "pools" not in case["shape"]:
            continue
        if a.no_captures:
            case["shape"]["captures"] = 0
        if a.device is not None:
            case = on_device(case, a.device)
        with tempfile.TemporaryDirectory() as folder:
            wrong, count = compare(case, folder, a.tidemark, a.make_tape, a.framework, a.device, *oracle)
            cases += 1
            refused += wrong is None and count == 0
            events += count
            if wrong:
                different += 1
                a.keep.mkdir(parents=True, exist_ok=True)
                (a.keep / f"{a.seed}-{cases}.json").write_text(json.dumps(dict(case, wrong=wrong), indent=1))
                print(f"case {cases}: {wrong}\n   {json.dumps(case)}", flush=True)
                if different >= 20:
                    break
        if cases % 100 == 0:
            print(f"{cases} cases, {events} events, {different} differ, {refused} refused by both, {time.time() - begin:.0f} s", flush=True)
    print(f"{cases} cases, {events} events, {different} differ, {refused} refused by both, {time.time() - begin:.0f} s")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
