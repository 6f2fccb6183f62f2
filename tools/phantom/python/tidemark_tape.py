"""Writes the history of PyTorch's allocator as a tape (contract, section 5), with ops, phases and tensors as far as they are known.

Phases follow from the functions of PyTorch on the stacks (tidemark_labels.PHASES) and from the ends of optimizers' steps:
`data` is a copy that the program makes outside of modules, and a `forward` that no backward follows is an `evaluation`.
"""
import gzip

import tidemark_labels

# Operators whose results have a size that depends on values; those are zero on a phantom.
SIZED_BY_VALUES = {"aten::nonzero", "aten::masked_select", "aten::_unique", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive",
                   "aten::bincount", "aten::repeat_interleave"}
COPIES = ("aten::to ", "aten::_to_copy ", "aten::copy_ ", "aten::_pin_memory ")


def in_stable_order(trace):
    """Indices of the allocs, failed allocs and requested frees of a trace, and index of a free -> where it completed.

    Leaving autocast, PyTorch clears its cache of casts in the order of a hash map of host addresses, which
    changes from process to process. Here these frees, which follow each other, are in order of allocation.
    """
    completed, pending, born, events, run = {}, {}, {}, [], []

    def flush():
        events.extend(sorted(run, key=lambda i: born.get(trace[i]["addr"], -1)))
        run.clear()

    for i, e in enumerate(trace):
        if e["action"] in ("alloc", "oom"):
            flush()
            events.append(i)
            if e["action"] == "alloc":
                born[e["addr"]] = i
        elif e["action"] == "free_requested":
            pending[e["addr"]] = i
            if any(f["name"].startswith("at::autocast::clear_cache") for f in e.get("frames", ())):
                run.append(i)
            else:
                flush()
                events.append(i)
        elif e["action"] == "free_completed" and e["addr"] in pending:
            completed[pending.pop(e["addr"])] = i
    flush()
    return events, completed


def tensor_texts(trace, events, names):
    """Allocation's number -> what it is, from names given to addresses at some moments of the run."""
    texts, live, names = {}, {}, list(names)[::-1]
    allocations = frees = 0

    def take_names():
        while names and names[-1][0] <= allocations and names[-1][1] <= frees:
            _, _, address, text = names.pop()
            if address in live:
                texts.setdefault(live[address], text)

    for i in events:
        take_names()
        e = trace[i]
        if e["action"] == "alloc":
            live[e["addr"]] = allocations
            allocations += 1
        elif e["action"] == "free_requested":
            live.pop(e["addr"], None)
            frees += 1
    take_names()
    return texts


class Phases:
    """Follows what the program is doing; yields the text of a mark where that changes."""

    def __init__(self):
        self.finder = tidemark_labels.PhaseFinder()
        self.now, self.step, self.micro, self.stepped = None, 0, 0, False

    def optimizer_done(self):
        self.step += 1
        self.micro, self.stepped = 0, True

    def interrupt(self):
        """A pass like the one before is another one."""
        if self.now:
            self.leave("nothing")

    def leave(self, phase):
        if self.now == "backward":
            self.micro += 1
        self.now = phase

    def change(self, event, label):
        """The mark to write before an event, or None. label: of an allocation, else empty."""
        phase = self.finder.phase(event.get("frames", ()))
        if phase is None and (label + " ").startswith(COPIES):
            phase = "data"
        if phase is None and self.now is None:
            phase = "model"
        # A free says little: whoever binds a variable again does it.
        if phase is None or phase == self.now or (not label and phase not in ("zero_grad", "backward")):
            return None
        self.leave(phase)
        return self.text(phase)

    def text(self, phase):
        if phase == "model":
            return "model"
        if phase in ("clip", "optimizer", "zero_grad"):
            after = self.stepped and phase != "clip"  # what follows an optimizer's step belongs to that step
            return f"{phase} step={self.step - after}"
        self.stepped = False
        return f"{phase} step={self.step} micro={self.micro}"


def name_evaluations(lines):
    """A forward pass without a backward one after it is an evaluation."""
    passes = [n for n, line in enumerate(lines) if line.startswith(("p forward", "p backward"))]
    for n, following in zip(passes, passes[1:] + [None]):
        if lines[n].startswith("p forward") and (following is None or lines[following].startswith("p forward")):
            lines[n] = lines[n].replace("forward", "evaluation", 1).partition(" micro=")[0]


class Writer:
    """Builds the lines of a tape, event by event."""

    def __init__(self, trace, marks, names):
        self.trace, self.marks = trace, list(marks)[::-1]
        self.events, self.completed = in_stable_order(trace)
        self.texts = tensor_texts(trace, self.events, names)
        self.labeller, self.phases = tidemark_labels.Labeller(), Phases()
        self.lines, self.streams, self.live, self.label = ["# tidemark tape 1"], {}, {}, ""
        self.waiting = []  # (index of the completion) of frees that were held back
        self.allocations = self.frees = self.number = 0
        self.counts = dict(allocations=0, frees=0, deferred_frees=0, unknown_frees=0, failures=0)
        self.sized_by_values = {}

    def run(self, end):
        for i in self.events:
            self.take_marks()
            if (self.allocations, self.frees) == end and self.trace[i]["action"] != "oom":
                break
            self.complete(i)
            event = self.trace[i]
            label = self.labeller.label(event.get("frames", ())) if event["action"] != "free_requested" else ""
            phase = self.phases.change(event, label)
            if phase:
                self.lines.append("p " + phase)
                self.label = ""
            if event["action"] == "free_requested":
                self.free(i, event)
            else:
                self.allocate(event, label)
        self.take_marks(everything=True)
        name_evaluations(self.lines)
        return self.lines

    def take_marks(self, everything=False):
        while self.marks and (everything or (self.marks[-1][0] <= self.allocations and self.marks[-1][1] <= self.frees)):
            line = self.marks.pop()[2]
            if line == "step":
                self.phases.optimizer_done()
            elif line == "mode":
                self.phases.interrupt()
            else:
                self.lines.append(line)

    def complete(self, i):
        """Frees that were held back until here: the device had reached their events."""
        if any(done < i for done in self.waiting):
            self.waiting = [done for done in self.waiting if done >= i]
            self.lines.append("y")

    def allocate(self, event, label):
        if label != self.label:
            self.lines.append("o " + label)
            self.label = label
        self.note_size(label)
        stream = self.streams.setdefault(event["stream"], len(self.streams) + 1) if event["stream"] else 0
        self.lines.append(f"a {self.number} {event['size']}" + (f" {stream}" if stream else ""))
        if event["action"] == "oom":
            self.lines.append(f"# out of memory: {event['size']} bytes, rounded")
            self.counts["failures"] += 1
        else:
            if self.allocations in self.texts:
                self.lines.append(f"t {self.number} {self.texts[self.allocations]}")
            self.live[event["addr"]] = self.number
            self.allocations += 1
        self.number += 1

    def note_size(self, label):
        ops, _, site = label.partition(" @ ")
        for op in SIZED_BY_VALUES.intersection(ops.split()):
            self.sized_by_values[f"{op} @ {site}"] = self.sized_by_values.get(f"{op} @ {site}", 0) + 1

    def free(self, i, event):
        self.frees += 1
        number = self.live.pop(event["addr"], None)
        if number is None:  # older than the history
            self.counts["unknown_frees"] += 1
            return
        done = self.completed.get(i)
        if done is None or any(self.trace[k]["action"] in ("alloc", "free_requested") for k in range(i + 1, done)):
            # Held back by another stream's use; which one, the history doesn't tell.
            self.counts["deferred_frees"] += 1
            self.lines.append(f"s {number} {self.streams.get(event['stream'], 0) + 1}")
            if done is not None:
                self.waiting.append(done)
        self.lines.append(f"f {number}")


def write(path, trace, marks, names, end):
    """Writes the tape, gzip-compressed; returns counts. end: the allocations and frees that the tape may have."""
    writer = Writer(trace, marks, names)
    lines = writer.run(end)
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())
    counts = {**writer.counts, "allocations": writer.allocations, "frees": writer.frees}
    return {"events": writer.allocations + writer.frees, "counts": counts, "sized_by_values": writer.sized_by_values}
