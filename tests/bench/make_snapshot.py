#!/usr/bin/env python3
"""Writes a large memory snapshot as PyTorch's pickles have it, without holding it: make_snapshot.py MIB FILE

A trace of one allocation after the other, each with a stack of its own list of thirty shared frames. How fast and in how much memory it
is read:  /usr/bin/time -v build/release/tidemark replay FILE
"""
import random
import sys


class Writer:
    """Opcodes of protocol 4, with the memo as Python's pickler fills it."""

    def __init__(self, file):
        self.file, self.memo, self.known = file, 0, {}

    def memoize(self):
        self.memo += 1
        return b"\x94"

    def text(self, text):
        if text in self.known:
            return self.get(self.known[text])
        self.known[text] = self.memo
        data = text.encode()
        return b"\x8c" + bytes([len(data)]) + data + self.memoize()

    @staticmethod
    def get(index):
        return b"h" + bytes([index]) if index < 256 else b"j" + index.to_bytes(4, "little")

    @staticmethod
    def number(value):
        if value < 256:
            return b"K" + bytes([value])
        if value < 1 << 31:
            return b"J" + value.to_bytes(4, "little")
        data = value.to_bytes((value.bit_length() + 8) // 8, "little")
        return b"\x8a" + bytes([len(data)]) + data

    def dict(self, items):
        begin = b"}" + self.memoize() + b"("
        return begin + b"".join(self.text(k) + (v() if callable(v) else v) for k, v in items) + b"u"


def main():
    size, path = int(sys.argv[1]) << 20, sys.argv[2]
    r = random.Random(1)
    with open(path, "wb") as file:
        w = Writer(file)
        file.write(b"\x80\x04}" + w.memoize() + b"(" + w.text("segments") + b"]" + w.memoize())
        pair = lambda: b"K\x00K\x00\x86" + w.memoize()
        empty = lambda: b"]" + w.memoize()
        base, block = 0x7F0000000000, 5 << 20
        free = lambda: b"]" + w.memoize() + w.dict(
            [("address", w.number(base)), ("size", w.number(20 << 20)), ("requested_size", w.number(0)), ("state", lambda: w.text("inactive")),
             ("frames", empty)]) + b"a"
        file.write(w.dict([("device", w.number(0)), ("address", w.number(base)), ("total_size", w.number(20 << 20)), ("stream", w.number(0)),
                           ("segment_type", lambda: w.text("large")), ("segment_pool_id", pair), ("is_expandable", b"\x89"), ("blocks", free)]) + b"a")
        file.write(w.text("device_traces") + b"]" + w.memoize() + b"]" + w.memoize())
        frames = []
        file.write(b"(")  # of a first entry that only introduces the frames
        first = b"}" + w.memoize() + b"(" + w.text("action") + w.text("oom") + w.text("size") + w.number(0) + w.text("device_free") + w.number(0)
        first += w.text("frames") + b"]" + w.memoize() + b"("
        for k in range(3000):
            frames.append(w.memo)
            first += w.dict([("name", lambda: w.text(f"function_{k % 700}")), ("filename", lambda: w.text(f"project/module_{k % 90}.py")),
                             ("line", w.number(k % 900))])
        file.write(first + b"eu")
        stacks = [b"".join(w.get(f) for f in r.sample(frames, 30)) for _ in range(20000)]
        now, batch = 1 << 50, 1
        while file.tell() < size:
            for action in ("alloc", "free_requested", "free_completed"):
                now += r.randrange(1, 50)
                stack = r.choice(stacks)
                frame_list = lambda: b"]" + w.memoize() + b"(" + stack + b"e"
                file.write(w.dict([("action", lambda: w.text(action)), ("addr", w.number(base)), ("size", w.number(block)), ("stream", w.number(0)),
                                   ("time_us", w.number(now)), ("pool_id", pair), ("frames", frame_list)]))
                batch += 1
                if batch == 1000:
                    file.write(b"e(")
                    batch = 0
        file.write(b"ea")  # the trace, as the only one
        file.write(w.text("allocator_settings") + w.dict([("PYTORCH_CUDA_ALLOC_CONF", lambda: w.text(""))]) + b"u.")


if __name__ == "__main__":
    main()
