#!/usr/bin/env python3
"""Whether two memory snapshots tell of the same events: those of a program on a GPU, and of the same program under the phantom.

  same_events.py A.pickle B.pickle      exit code 0: the same sizes in the same order, segments included; 1: not, with the first difference

Frees that follow each other are compared as a set: leaving autocast, PyTorch frees its casts in the order of a hash of addresses.
"""
import pickle
import sys


def events_of(path):
    with open(path, "rb") as file:
        trace = pickle.load(file)["device_traces"][0]
    names, count, events, frees = {}, 0, [], []
    for e in trace:
        if e["action"] == "free_requested":
            frees.append(("free", names.pop(e["addr"], -1)))
            continue
        if e["action"] in ("alloc", "segment_alloc", "segment_free", "segment_map", "segment_unmap", "oom"):
            events += sorted(frees)
            frees = []
            events.append((e["action"], e["size"]))
        if e["action"] == "alloc":
            names[e["addr"]] = count
            count += 1
    return events + sorted(frees)


def main():
    a, b = (events_of(path) for path in sys.argv[1:3])
    for i, (x, y) in enumerate(zip(a, b)):
        if x != y:
            print(f"event {i} of {len(a)} and {len(b)}: {x} and {y}")
            return 1
    if len(a) != len(b):
        print(f"{len(a)} and {len(b)} events; the shorter is how the longer begins")
        return 1
    print(f"{len(a)} events are the same")
    return 0


sys.exit(main())
