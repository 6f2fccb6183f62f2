#!/usr/bin/env python3
"""What scaled_dot_product_attention allocates on this device with cuDNN's kernels, call by call:

  probe_attention.py [PART PARTS]     prints a JSON line a case: its shapes, the events of forward and backward (sizes are
                                      requested bytes, ids of allocations by first use), which kernel PyTorch chooses by itself

A case is run twice: plans are cached, and what is taken for making one shows in the first run only.
"""
import itertools
import json
import random
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def cases():
    base = {"dtype": "bf16", "batch": 4, "heads": 6, "kv_heads": 6, "queries": 512, "keys": 512, "dim": 64, "causal": True,
            "mask": "none", "layout": "bthd", "dropout": 0.0}
    yield base
    for key, values in {"dtype": ["fp16"], "batch": [1, 2, 3, 16], "heads": [1, 12], "kv_heads": [1, 2, 3],
                        "queries": [1, 2, 17, 64, 100, 127, 128, 129, 200, 256, 500, 1000, 1024, 2048, 4096],
                        "dim": [8, 16, 32, 40, 48, 72, 80, 96, 104, 112, 120, 128, 136, 192, 256], "causal": [False],
                        "mask": ["float", "bool", "broadcast"], "layout": ["bhtd"], "dropout": [0.1]}.items():
        for v in values:
            case = dict(base, **{key: v})
            if key == "queries":
                case["keys"] = v
            if key == "heads":
                case["kv_heads"] = v
            if key == "mask":
                case["causal"] = False
            yield case
    yield dict(base, keys=300, causal=False)
    yield dict(base, queries=300, causal=False)
    # Sizes that are no multiples of anything.
    for queries, dim, heads, kv_heads, batch in itertools.product((3, 5, 61, 67), (8, 24, 104), (3, 2), (1,), (1, 3)):
        yield dict(base, queries=queries, keys=queries, dim=dim, heads=heads, kv_heads=kv_heads, batch=batch)
        yield dict(base, queries=queries, keys=queries, dim=dim, heads=heads, kv_heads=heads, batch=batch)
    r = random.Random(5)
    for _ in range(40):
        kv = r.choice([1, 2, 4, 8])
        t = r.choice([r.randrange(1, 3000), 64 * r.randrange(1, 32)])
        case = dict(base, dtype=r.choice(list(DTYPES)), batch=r.randrange(1, 9), kv_heads=kv, heads=kv * r.choice([1, 1, 2, 4]), queries=t, keys=t,
                    dim=8 * r.randrange(1, 17), causal=r.random() < 0.7, layout=r.choice(["bthd", "bhtd"]))
        if r.random() < 0.2:
            case.update(mask=r.choice(["float", "bool"]), causal=False)
        yield case


def tensor(case, heads, length):
    shape = (case["batch"], length, heads, case["dim"]) if case["layout"] == "bthd" else (case["batch"], heads, length, case["dim"])
    t = torch.randn(shape, device="cuda", dtype=DTYPES[case["dtype"]], requires_grad=True)
    return t.transpose(1, 2) if case["layout"] == "bthd" else t


def events_since(start):
    names, out = {}, []
    trace = torch.cuda.memory._snapshot()["device_traces"][0]
    for e in trace[start:]:
        if e["action"] in ("alloc", "free_requested"):
            if e["action"] == "alloc":
                names[e["addr"]] = len(names)
            out.append([e["action"][0], names.pop(e["addr"], -1) if e["action"] != "alloc" else names[e["addr"]], e["size"]])
    return out, len(trace)


def run(case):
    q, k, v = tensor(case, case["heads"], case["queries"]), tensor(case, case["kv_heads"], case["keys"]), tensor(case, case["kv_heads"], case["keys"])
    mask = None
    if case["mask"] == "float":
        mask = torch.zeros(case["batch"], case["heads"], case["queries"], case["keys"], device="cuda", dtype=q.dtype)
    if case["mask"] == "bool":
        mask = torch.ones(case["batch"], 1, case["queries"], case["keys"], device="cuda", dtype=torch.bool)
    if case["mask"] == "broadcast":
        mask = torch.zeros(1, 1, case["queries"], case["keys"], device="cuda", dtype=q.dtype)
    options = dict(attn_mask=mask, is_causal=case["causal"], dropout_p=case["dropout"], enable_gqa=case["heads"] != case["kv_heads"])
    result = dict(case)
    result["chosen"] = str(SDPBackend(torch._fused_sdp_choice(q, k, v, **options)))
    gradient = None
    for attempt in ("first", "second"):
        torch.cuda.memory._record_memory_history(context=None, max_entries=10000)
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            out = F.scaled_dot_product_attention(q, k, v, **options)
            result[attempt + "_forward"], at = events_since(0)
            if attempt == "first":
                result["out_strides"] = list(out.stride())
            gradient = torch.randn_like(out)
            _, at = events_since(at)
            torch.autograd.grad(out, (q, k, v), gradient)
            result[attempt + "_backward"], _ = events_since(at)
        del out
        torch.cuda.memory._record_memory_history(enabled=None)
    return result


def main():
    part, parts = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (0, 1)
    if part == 0:
        print(json.dumps({"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "device": torch.cuda.get_device_name()}))
    torch.zeros(1, device="cuda")
    for case in itertools.islice(cases(), part, None, parts):
        try:
            print(json.dumps(run(case)), flush=True)
        except Exception as error:
            print(json.dumps(dict(case, error=f"{type(error).__name__}: {error}"[:300])), flush=True)


main()
