"""Records what a process asks of PyTorch's caching allocator, from the device's first use to the end of the process.

Writes into a folder, named by the process id: PID.tape.gz (contract, section 5), PID.pickle (torch.cuda.memory._snapshot()), PID.json
(peaks, statistics, how the process ended, what couldn't be known). Everything comes from the allocator's own history and counters.
Nothing of the program is wrapped that handles tensors, and no reference to a tensor stays, so the program allocates what it would
without. The program's own calls of torch.cuda.memory._record_memory_history have no effect: everything is recorded already.
"""
import atexit
import gc
import json
import os
import pickle
import signal
import sys
import threading

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

import tidemark_tape

MAX_EVENTS = int(os.environ.get("TIDEMARK_RECORD_EVENTS", 2_000_000))
KINDS = ("requested", "allocated", "active", "reserved")
WRAPPERS = ("_orig_mod.", "module.")  # of torch.compile and DistributedDataParallel, in names of parameters


class Recorder:
    def __init__(self, folder, answers):
        self.path = os.path.join(folder, str(os.getpid()))
        self.pid = os.getpid()
        self.answers = answers
        self.saved = False
        self.history = None  # why there is none
        self.base = [0, 0]  # allocations and frees before the counters were set to zero
        self.marks = []  # (allocations, frees, line of the tape)
        self.names = []  # (allocations, frees, address, text): tensors known then
        self.peaks = dict.fromkeys(KINDS, 0)  # before the program reset them
        self.module_names = {}  # id of a parameter or buffer -> its name
        self.exception = None

    def arm(self):
        """Recording begins when the program first uses the device."""
        torch.cuda._lazy_call(self.begin)

    def begin(self):
        try:
            torch.cuda.memory._record_memory_history(max_entries=MAX_EVENTS, context="all", stacks="all")
        except RuntimeError as error:  # cudaMallocAsync has no history
            self.history = str(error).splitlines()[0]
        torch.cuda.memory._record_memory_history = lambda *args, **kwargs: None
        self.watch_calls()
        register_optimizer_step_pre_hook(self.before_optimizer)
        register_optimizer_step_post_hook(self.after_optimizer)
        self.watch_the_end()

    # --- calls of the program that the history doesn't tell

    def watch_calls(self):
        def wrap(name, before):
            plain = getattr(torch._C, name, None)
            if plain is not None:
                def wrapper(*args, **kwargs):
                    before()
                    return plain(*args, **kwargs)
                setattr(torch._C, name, wrapper)

        for owner in ("_cuda", "_accelerator"):
            wrap(owner + "_emptyCache", lambda: self.mark("e"))
        wrap("_cuda_synchronize", lambda: self.mark("y"))
        for name in ("_cuda_resetPeakMemoryStats", "_accelerator_resetPeakStats"):
            wrap(name, self.before_reset_of_peaks)
        for name in ("_cuda_resetAccumulatedMemoryStats", "_accelerator_resetAccumulatedStats"):
            wrap(name, self.before_reset_of_counters)
        self.watch_modes()

    def watch_modes(self):
        """Marks where a model is switched between training and evaluation: one forward pass ends, another begins."""
        switch, depth = torch.nn.Module.train, [0]

        def train(module, mode=True):
            if depth[0] == 0:
                self.mark("mode")
            depth[0] += 1
            try:
                return switch(module, mode)
            finally:
                depth[0] -= 1

        torch.nn.Module.train = train

    def counters(self):
        return torch.cuda.memory_stats_as_nested_dict(0)

    def position(self, stats=None):
        counts = (stats or self.counters())["allocation"]["all"]
        return self.base[0] + counts["allocated"], self.base[1] + counts["freed"]

    def mark(self, line):
        self.marks.append((*self.position(), line))

    def before_reset_of_peaks(self):
        stats = self.counters()
        self.keep_peaks(stats)
        self.marks.append((*self.position(stats), "r"))

    def before_reset_of_counters(self):
        self.base = list(self.position())

    def keep_peaks(self, stats):
        self.peaks = {k: max(v, stats[f"{k}_bytes"]["all"]["peak"]) for k, v in self.peaks.items()}

    # --- names of tensors

    def name(self, category, tensors):
        """What the storages at these tensors' addresses are. tensors: (name, tensor) pairs."""
        at = self.position()
        for name, tensor in tensors:
            if isinstance(tensor, torch.Tensor) and tensor.is_cuda and tensor.layout == torch.strided:
                shape = ",".join(str(n) for n in tensor.shape)
                dtype = str(tensor.dtype).removeprefix("torch.")
                self.names.append((*at, tensor.data_ptr(), f"{category} {name} {dtype}[{shape}]"))

    def find_modules(self):
        """Names the parameters and buffers of all modules that no other module contains."""
        modules = [m for m in gc.get_objects() if issubclass(type(m), torch.nn.Module)]
        inner = {id(child) for m in modules for child in m.__dict__.get("_modules", {}).values()}
        for module in modules:
            if id(module) in inner or "_parameters" not in module.__dict__:
                continue
            for category, tensors in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
                tensors = [(plain_name(name), tensor) for name, tensor in tensors]
                self.module_names.update((id(tensor), name) for name, tensor in tensors)
                self.name(category, tensors)

    def parameters(self, optimizer):
        for group in optimizer.param_groups:
            for number, parameter in enumerate(group["params"]):
                yield self.module_names.get(id(parameter), f"parameter{number}"), parameter

    def before_optimizer(self, optimizer, args, kwargs):
        if any(id(p) not in self.module_names for _, p in self.parameters(optimizer)):
            self.find_modules()
        self.name("gradient", ((name, p.grad) for name, p in self.parameters(optimizer)))

    def after_optimizer(self, optimizer, args, kwargs):
        self.name("optimizer_state", ((f"{name}.{key}", value) for name, p in self.parameters(optimizer)
                                      for key, value in optimizer.state.get(p, {}).items()))
        self.mark("step")

    # --- the end

    def watch_the_end(self):
        atexit.register(self.save)
        hook, leave = sys.excepthook, os._exit

        def excepthook(kind, value, traceback):
            self.exception = f"{kind.__name__}: {value}"
            hook(kind, value, traceback)

        def leave_at_once(status):
            self.save()
            leave(status)

        sys.excepthook = excepthook
        os._exit = leave_at_once
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    def save(self):
        if self.saved or os.getpid() != self.pid:  # a forked child has no device
            return
        self.saved = True
        stats = self.counters()
        self.keep_peaks(stats)
        statistics = torch.cuda.memory_stats(0)
        self.find_modules()
        end = self.position(stats)
        recording = None
        if self.history is None:
            snapshot = torch.cuda.memory._snapshot()
            with open(self.path + ".pickle", "wb") as file:
                pickle.dump(snapshot, file)
            trace = snapshot["device_traces"][0]
            recording = tidemark_tape.write(self.path + ".tape.gz", trace, self.marks, self.names, end)
            recording["full"] = len(trace) >= MAX_EVENTS
        with open(self.path + ".json", "w") as file:
            json.dump(self.description(statistics, recording), file)

    def description(self, statistics, recording):
        properties = torch.cuda.get_device_properties(0)
        packages = {name: sys.modules[name].__version__ for name in ("torch", "transformers") if name in sys.modules}
        return {"program": sys.orig_argv, **packages, "cuda": torch.version.cuda,
                "device": {"name": properties.name, "total_memory": properties.total_memory,
                           "compute_capability": f"{properties.major}.{properties.minor}",
                           "multiprocessors": properties.multi_processor_count},
                "peak": {f"{k}_bytes": self.peaks[k] for k in KINDS}, "recording": recording, "no_history": self.history,
                "answers_given": self.answers.given, "decided_by_zero": self.answers.unknown,
                "exception": self.exception, "statistics": statistics}


def plain_name(name):
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name
