"""The Chrome trace: what Perfetto's trace processor reads back from it, where that can be had (pip's perfetto fetches its
engine from the network on first use); and in any case the rules of Perfetto's and Chrome's importers, checked here."""
import json
import subprocess
import sys
import tempfile
import unittest
from collections import defaultdict
from pathlib import Path

import program
from program import BUILD, SOURCE, TINY

EAGER = SOURCE / "configs/runs/nanogpt-30m-rtx4070-eager.yaml"
COUNTERS = ("requested", "allocated", "active", "reserved")


def nanos(text):
    """A time of the trace, in whole nanoseconds; it is written with three decimals."""
    whole, _, fraction = str(text).partition(".")
    assert len(fraction) <= 3, text
    return int(whole) * 1000 + int(fraction.ljust(3, "0"))


class ChromeTrace(program.ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.path = Path(cls.folder.name, "trace.json")
        done = program.run("simulate", EAGER, "--json", "--trace", cls.path)
        assert done.returncode == 0, done.err
        cls.report = json.loads(done.out)
        cls.trace = json.loads(cls.path.read_text(), parse_float=str)  # times as they are written
        cls.events = cls.trace["traceEvents"]

    def of(self, phase):
        return [e for e in self.events if e["ph"] == phase]

    def test_container(self):
        self.assertEqual(self.trace["displayTimeUnit"], "ms")
        self.assertEqual({e["ph"] for e in self.events}, {"M", "X", "C", "i", "b", "e"})
        for event in self.events:
            self.assertIn("cat", event)
            self.assertIn("name", event)
            self.assertNotIn("cname", event)
            self.assertTrue(event["pid"] > 0 and event.get("tid", 1) > 0)
        self.assertLess(self.path.stat().st_size, 50e6)

    def test_slices_nest(self):
        threads = defaultdict(list)
        for e in self.of("X"):
            begin = nanos(e["ts"])
            threads[e["pid"], e["tid"]].append((begin, -nanos(e["dur"]), e["name"]))
            self.assertGreater(nanos(e["dur"]), 0)
        self.assertEqual(set(threads), {(1, 1), (1, 2)})
        for slices in threads.values():
            open_ends = []
            for begin, duration, name in sorted(slices):
                while open_ends and open_ends[-1] <= begin:
                    open_ends.pop()
                self.assertTrue(not open_ends or begin - duration <= open_ends[-1], f"{name} at {begin} overlaps")
                open_ends.append(begin - duration)

    def test_phases_and_ops_are_there(self):
        names = defaultdict(set)
        for e in self.of("X"):
            names[e["cat"]].add(e["name"])
        self.assertEqual(names["step"], {"step 0", "step 1", "step 2"})
        self.assertLessEqual({"model", "data", "evaluation", "forward", "backward", "clip", "optimizer", "zero_grad"}, names["phase"])
        self.assertGreater(len(names["op"]), 50)

    def test_counters_peak_at_the_reports_values(self):
        highest, keys, last = defaultdict(int), defaultdict(set), {}
        for e in self.of("C"):
            (key, value), = e["args"].items()
            keys[e["name"]].add(key)
            self.assertNotEqual(last.get(e["name"]), value, "written only when it changes")
            last[e["name"]] = value
            highest[e["name"]] = max(highest[e["name"]], value)
        self.assertEqual(dict(keys), {name: {"bytes"} for name in COUNTERS})
        self.assertEqual(dict(highest), {name: self.report["peak"][f"{name}_bytes"] for name in COUNTERS})

    def test_lives_begin_and_end_in_pairs(self):
        depth, ids = defaultdict(list), set()
        for e in self.events:
            if e["ph"] == "b":
                depth[e["cat"], e["id"]].append((e["name"], nanos(e["ts"])))
                ids.add(e["id"])
            elif e["ph"] == "e":
                name, begin = depth[e["cat"], e["id"]].pop()
                self.assertEqual(name, e["name"])
                self.assertLessEqual(begin, nanos(e["ts"]))
        self.assertFalse([key for key, left in depth.items() if left])
        self.assertEqual(len(ids), self.report["counts"]["tensors"])
        self.assertEqual(self.trace["otherData"]["tensors_left_out"], 0)

    def test_instants(self):
        names = [e["name"] for e in self.of("i")]
        self.assertEqual(names, [f"PEAK {self.report['peak']['allocated_bytes'] / 2**20:.1f} MiB allocated"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "t.json.gz")
            self.good("simulate", TINY, "--set", "device.memory=24MiB", "--set", "device.overhead=0", "--trace", path, code=1)
            import gzip
            names = [e["name"] for e in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"] if e["ph"] == "i"]
            self.assertIn("OUT OF MEMORY", names)

    def test_perfetto_reads_the_peak_back(self):
        processor = perfetto_processor(self.path)
        if processor is None:
            self.skipTest("Perfetto's trace processor can't be had here: the other tests of this file check the trace instead")
        with processor:
            for name in COUNTERS:
                rows = list(processor.query(
                    "select max(c.value) as peak from counter c join counter_track t on c.track_id = t.id "
                    f"where t.name in ('{name}', '{name} bytes')"))
                self.assertEqual(int(rows[0].peak), self.report["peak"][f"{name}_bytes"])
            slices = list(processor.query("select count(*) as n from slice s join thread_track t on s.track_id = t.id"))[0].n
            self.assertEqual(slices, len(self.of("X")))
            problems = list(processor.query("select name, value from stats where severity in ('error', 'data_loss') and value > 0"))
            self.assertEqual([(p.name, p.value) for p in problems], [])


def perfetto_processor(path):
    """A trace processor that has loaded the file, in a virtual environment below build/; None where it can't be had."""
    environment = BUILD / "perfetto"
    try:
        if not (environment / "installed").exists():
            subprocess.run([sys.executable, "-m", "venv", environment], check=True, capture_output=True, timeout=120)
            subprocess.run([environment / "bin/pip", "install", "-q", "--disable-pip-version-check", "perfetto"], check=True,
                           capture_output=True, timeout=300)
            (environment / "installed").touch()
        for packages in (environment / "lib").glob("python*/site-packages"):
            sys.path.insert(0, str(packages))
        from perfetto.trace_processor import TraceProcessor
        return TraceProcessor(trace=str(path))
    except Exception as error:  # pip, the network, the engine: whatever is missing, the reason is shown
        print(f"no Perfetto: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
        return None


if __name__ == "__main__":
    unittest.main()
