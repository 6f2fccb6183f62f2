"""From the stack of an allocator's event (frames of C++ and Python, innermost first) to an op's label and to a phase."""
import ast
import functools
import re
from pathlib import Path

import torch

TORCH = str(Path(torch.__file__).parent) + "/"
HERE = str(Path(__file__).parent) + "/"

OP = re.compile(r"^at::_ops::(\w+)::(?:call|redispatch)\(")
NODE = re.compile(r"^torch::autograd::(?:generated::)?(\w+)::apply\(")
NODE_BY_HAND = re.compile(r"^torch::autograd::(AccumulateGrad|CopySlices|PyNode|GraphRoot)\b")
TOKENS = (
    ("at::cuda::getCurrentCUDABlasHandle", "cublas_workspace"),
    ("at::cuda::getCurrentCUDABlasLtHandle", "cublaslt_workspace"),
    ("getCUDABlasLtWorkspace", "cublaslt_workspace"),
    ("torch::autograd::InputBuffer::", "InputBuffer"),
    ("torch::autograd::InputMetadata::reduce_grad", "reduce_grad"),
    ("torch::autograd::validate_outputs_impl", "validate_outputs"),
    ("at::autocast::cached_cast", "autocast"),
    ("at::cuda::cub::", "cub"),
)
FACTORIES = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "resize_", "_resize_output_"}


@functools.lru_cache(maxsize=None)
def classes_in(path):
    """(first line, last line, class) of every class in a Python file, inner ones last."""
    try:
        tree = ast.parse(Path(path).read_text())
    except (OSError, SyntaxError, ValueError):
        return []
    return sorted((n.lineno, n.end_lineno, n.name) for n in ast.walk(tree) if isinstance(n, ast.ClassDef))


@functools.lru_cache(maxsize=None)
def qualified(path, line, function):
    owner = [name for first, last, name in classes_in(path) if first <= line <= last]
    return ".".join(owner + [function])


def op_names():
    """at::_ops::NAME -> NAME without the overload."""
    return {s.name.split("::")[1] + (f"_{s.overload_name}" if s.overload_name else ""): s.name.split("::")[1]
            for s in torch._C._jit_get_all_schemas() if s.name.startswith("aten::")}


class Labeller:
    """A label is the autograd node (in backward), the ATen ops from the outermost in, @ the innermost function outside PyTorch."""

    def __init__(self):
        self.ops = op_names()
        self.frame = functools.lru_cache(maxsize=None)(self._frame)

    def _frame(self, name):
        match = OP.match(name)
        if match:
            return "op", "aten::" + self.ops.get(match[1], match[1])
        match = NODE.match(name) or NODE_BY_HAND.match(name)
        if match and match[1] not in ("Node", "details"):
            return "node", match[1]
        for start, token in TOKENS:
            if start in name:
                return "token", token
        return None, None

    def label(self, frames):
        nodes, ops, site = [], [], ""
        for f in frames:
            kind, text = self.frame(f["name"])
            if kind in ("op", "token"):
                if not ops or ops[-1] != text:
                    ops.append(text)
            elif kind == "node":
                nodes.append(text)
            elif not site and f["filename"].endswith(".py") and not f["filename"].startswith((TORCH, HERE)):
                site = " @ " + qualified(f["filename"], f["line"], f["name"])
        while len(ops) > 1 and ops[0].removeprefix("aten::") in FACTORIES:
            ops.pop(0)
        return " ".join(nodes[-1:] + ops[::-1]) + site


# Files of PyTorch and their functions (any, if there are none) that say what a program is doing, in order of precedence.
PHASES = (
    ("backward", "autograd/__init__.py", ("backward", "grad")),
    ("backward", "_tensor.py", ("backward",)),
    ("zero_grad", "optim/optimizer.py", ("zero_grad",)),
    ("zero_grad", "nn/modules/module.py", ("zero_grad",)),
    ("clip", "nn/utils/clip_grad.py", ()),
    ("optimizer", "amp/grad_scaler.py", ("step", "update")),
    ("clip", "amp/grad_scaler.py", ("unscale_",)),
    ("backward", "amp/grad_scaler.py", ("scale",)),
    ("optimizer", "optim/", ()),
    ("model", "nn/modules/module.py", ("_apply",)),
    ("forward", "nn/modules/module.py", ("_call_impl", "_wrapped_call_impl")),
)
NOT_A_STEP = ("optim/lr_scheduler.py", "optim/swa_utils.py")


class PhaseFinder:
    """What a program was doing when an event happened: backward, zero_grad, clip, optimizer, model (it is moved), forward, or
    unknown (None): code of its own. The functions of PyTorch on the stack tell."""

    def __init__(self):
        self.rank = functools.lru_cache(maxsize=None)(self._rank)

    def _rank(self, name, filename):
        if name.startswith("torch::autograd::Engine::"):
            return 0
        if not filename.startswith(TORCH):
            return len(PHASES)
        path = filename[len(TORCH):]
        for rank, (_, start, functions) in enumerate(PHASES):
            if path.startswith(start) and path not in NOT_A_STEP and (not functions or name in functions):
                return rank
        return len(PHASES)

    def phase(self, frames):
        rank = min((self.rank(f["name"], f["filename"]) for f in frames), default=len(PHASES))
        return PHASES[rank][0] if rank < len(PHASES) else None
