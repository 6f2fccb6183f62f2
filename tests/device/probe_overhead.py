#!/usr/bin/env python3
"""What a process takes of a GPU beside the caching allocator's segments, stage by stage, as the driver counts it (NVML):

  probe_overhead.py        prints a JSON line a stage: bytes of the process, of the device, reserved, and of the process beside that

A device file's `overhead` is what the process has beside reserved once both of cuBLAS's handles are there ("its backward"). On the H100:
742 MiB, and 758 from cuDNN's attention on. Needs a real GPU with PyTorch and nvidia-ml-py (pynvml).
"""
import json
import os

import pynvml
import torch
import torch.nn.functional as F


def process_bytes():
    """None: the driver doesn't know this process (in a container, or under Windows)."""
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    mine = [p.usedGpuMemory for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle) if p.pid == os.getpid()]
    return mine[0] if mine else None


def report(stage):
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    reserved = torch.cuda.memory_reserved()
    process = process_bytes()
    print(json.dumps({"stage": stage, "process": process, "device_used": total - free, "reserved": reserved,
                      "beside_reserved": None if process is None else process - reserved}), flush=True)


def main():
    torch.cuda.init()
    report("context")
    torch.zeros(1, device="cuda")
    report("first kernel")
    x = {d: torch.randn(1024, 1024, device="cuda", dtype=d, requires_grad=True) for d in (torch.float32, torch.float16, torch.bfloat16)}
    report("random numbers and casts")
    for d, t in x.items():
        t @ t
        report(f"matrix product {d}")
    for d, t in x.items():
        (t @ t).sum().backward()
        report(f"its backward {d}")
    for d, t in x.items():
        y = F.gelu(F.layer_norm(t, (1024,)))
        y = F.dropout(y, 0.1)
        F.softmax(y, -1).sum().backward()
    report("layer norm, gelu, dropout, softmax")
    table = torch.randn(50304, 384, device="cuda", requires_grad=True)
    rows = F.embedding(torch.randint(50304, (16, 512), device="cuda"), table)
    rows.sum().backward()
    report("embedding and its gradient")
    logits = torch.randn(8192, 512, device="cuda", requires_grad=True)
    F.cross_entropy(logits, torch.randint(512, (8192,), device="cuda")).backward()
    report("cross entropy")
    from torch.nn.attention import SDPBackend, sdpa_kernel
    for name in ("EFFICIENT_ATTENTION", "FLASH_ATTENTION", "CUDNN_ATTENTION"):
        for d in (torch.float16, torch.bfloat16):
            q, k, v = (torch.randn(2, 8, 512, 64, device="cuda", dtype=d, requires_grad=True) for _ in range(3))
            try:
                with sdpa_kernel(getattr(SDPBackend, name)):
                    F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
            except RuntimeError as error:
                print(json.dumps({"stage": name, "error": str(error)}))
            report(f"{name} {d}")
    parameters = [torch.nn.Parameter(torch.randn(1000, 1000, device="cuda")) for _ in range(4)]
    for kind in ({"fused": True}, {"foreach": True}):
        for p in parameters:
            p.grad = torch.randn_like(p)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        torch.optim.AdamW(parameters, **kind).step()
        report(f"AdamW {kind}")


main()
