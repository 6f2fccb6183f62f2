"""Our snapshots through PyTorch's own torch.cuda._memory_viz: every command of it, up to the web page."""
import base64
import json
import os
import pickle
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import program
from program import SOURCE, TINY

TORCH = Path(os.environ.get("TIDEMARK_TORCH", Path.home() / ".cache/tidemark/torch"))
PYTHON = TORCH / "bin/python"
COMMANDS = r"""
import pickle, sys
import torch.cuda._memory_viz as viz
data = pickle.load(open(sys.argv[1], "rb"))
for name in ("trace_plot", "segment_plot"):
    open(f"{sys.argv[2]}/{name}.html", "w").write(getattr(viz, name)(data))
open(f"{sys.argv[2]}/segsum.txt", "w").write(viz.segsum(data))
open(f"{sys.argv[2]}/trace.txt", "w").write(viz.trace(data))
lines = lambda lines, script=None: lines
open(f"{sys.argv[2]}/segments.txt", "w").write(viz.segments(data, format_flamegraph=lines))
open(f"{sys.argv[2]}/memory.txt", "w").write(viz.memory(data, format_flamegraph=lines))
"""


@unittest.skipUnless(PYTHON.exists(), f"no PyTorch in {TORCH}; TIDEMARK_TORCH names another place")
class MemoryViz(program.ProgramTest):
    def pages(self, *arguments):
        """What memory_viz makes of the snapshot that a command writes."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "snapshot.pickle")
        self.good(*arguments, "--snapshot", path)
        done = subprocess.run([PYTHON, "-c", COMMANDS, path, folder.name], capture_output=True, text=True, timeout=240)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        return path, {p.stem: p.read_text() for p in Path(folder.name).iterdir() if p != path}

    def check(self, *arguments):
        path, pages = self.pages(*arguments)
        data = pickle.loads(path.read_bytes())
        for name in ("trace_plot", "segment_plot"):
            with self.subTest(page=name):
                # The page carries the snapshot, for its script to draw.
                files = json.loads(re.search(r"const local_files = (\[.*\])", pages[name]).group(1))
                carried = pickle.loads(base64.b64decode(files[0]["base64"]))
                self.assertEqual(carried["segments"], data["segments"])
                self.assertEqual(len(carried["device_traces"][0]), len(data["device_traces"][0]))
        reserved = sum(s["total_size"] for s in data["segments"])
        sizes = [line.rsplit(" ", 1) for line in pages["memory"].splitlines()]
        self.assertEqual(sum(int(size) for _, size in sizes), reserved)
        self.assertIn("total_reserved", pages["segsum"])
        self.assertIn("Device 0", pages["trace"])

    def test_a_simulated_run(self):
        self.check("simulate", TINY)

    def test_a_run_with_expandable_segments(self):
        self.check("simulate", TINY, "--set", "allocator.conf='expandable_segments:True'")

    def test_a_recording_that_is_replayed(self):
        self.check("replay", SOURCE / "tests/truth/snapshots/medium-128-train.pickle.gz")


if __name__ == "__main__":
    unittest.main()
