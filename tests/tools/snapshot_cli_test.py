"""Snapshots in and out."""
import gzip
import json
import pickle
import tempfile
import unittest
from pathlib import Path

import program
from program import SOURCE, TINY

MEDIUM = SOURCE / "tests/truth/snapshots/medium-128-train.pickle.gz"


class Snapshots(program.ProgramTest):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return Path(self.folder.name, name)

    def test_every_allocation_of_a_real_recording_lands_on_its_address(self):
        self.assertIn("6526 of 6526 addresses match", self.good("replay", MEDIUM))

    def test_every_protocol_and_json_say_the_same(self):
        data = pickle.loads(gzip.decompress(MEDIUM.read_bytes()))
        data["device_traces"] = [data["device_traces"][0][-2000:]]
        forms = [("json", json.dumps(data).encode())]
        forms += [(f"protocol{p}", pickle.dumps(data, protocol=p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
        forms += [("padded", pickle.dumps(data) + b"\0\0\0"), ("gz", gzip.compress(pickle.dumps(data)))]
        outputs = set()
        for name, content in forms:
            path = self.path("snapshot")
            path.write_bytes(content)
            outputs.add(self.good("replay", path))
        self.assertEqual(len(outputs), 1)
        self.assertIn("666 of 666 addresses match", outputs.pop())

    def test_our_own_snapshots_replay_onto_their_addresses(self):
        for name, settings in (("a.json", []), ("a.pickle", []),
                               ("b.json", ["--set", "allocator.conf='expandable_segments:True'"]),
                               ("c.json", ["--set", "training.evaluation={every: 2, batches: 2}"])):
            with self.subTest(name=name, settings=settings):
                report = self.report("simulate", TINY, "--snapshot", self.path(name), *settings)
                again = self.report("replay", self.path(name))
                self.assertRegex(again["addresses"], r"^(\d+) of \1 addresses match$")
                for kind in ("requested_bytes", "allocated_bytes", "reserved_bytes"):
                    self.assertEqual(report["peak"][kind], again["peak"][kind])

    def replayed(self, data, **options):
        self.path("snapshot").write_bytes(pickle.dumps(data))
        return self.report("replay", self.path("snapshot"), **options)

    def test_a_trace_alone_a_state_alone_and_a_ring_that_lost_its_beginning(self):
        data = pickle.loads(gzip.decompress(MEDIUM.read_bytes()))
        trace, whole = data["device_traces"][0], self.replayed(data)
        # The trace of this recording begins in the middle of its process. What has both tells everything.
        ring = self.replayed({**data, "device_traces": [trace[-1000:]]})
        self.assertEqual(ring["addresses"], "333 of 333 addresses match")
        self.assertEqual(ring["peak"]["reserved_bytes"], whole["peak"]["reserved_bytes"])
        # A trace alone: what it frees without having allocated it was there before.
        for form in ({**data, "segments": []}, {k: v for k, v in data.items() if k != "segments"}):
            alone = self.replayed(form)
            self.assertIn("aren't compared", alone["addresses"])
            self.assertLessEqual(alone["peak"]["requested_bytes"], whole["peak"]["requested_bytes"])
        # A state alone.
        held = sum(s["total_size"] for s in data["segments"])
        used = sum(b["size"] for s in data["segments"] for b in s["blocks"] if b["state"] == "active_allocated")
        for form in ({**data, "device_traces": [[]]}, {k: v for k, v in data.items() if k != "device_traces"}):
            alone = self.replayed(form)
            self.assertEqual((alone["peak"]["reserved_bytes"], alone["peak"]["allocated_bytes"]), (held, used))
            self.assertGreater(len(alone["largest_at_peak"]), 0)

    def test_a_ring_is_walked_back_under_every_setting(self):
        for conf in ("roundup_power2_divisions:4", "max_split_size_mb:32,roundup_power2_divisions:2", "large_segment_size_mb:32",
                     "expandable_segments:True,roundup_power2_divisions:[1:2,>:8]"):
            self.good("simulate", TINY, "--snapshot", self.path("a.pickle"), "--set", "model.hidden=512", "--set", "model.heads=8", "--set",
                      "model.vocab=20000", "--set", "training.micro_batch=16", "--set", f"allocator.conf='{conf}'")
            data = pickle.loads(self.path("a.pickle").read_bytes())
            trace = data["device_traces"][0]
            for part in (0.9, 0.5):
                with self.subTest(conf=conf, part=part):
                    data["device_traces"] = [trace[-int(len(trace) * part):]]
                    self.assertRegex(self.replayed(data)["addresses"], r"^(\d+) of \1 addresses match$")

    def test_a_trace_from_the_start_of_its_process_needs_no_segments(self):
        self.good("simulate", TINY, "--snapshot", self.path("a.pickle"))
        data = pickle.loads(self.path("a.pickle").read_bytes())
        whole = self.replayed(data)
        alone = self.replayed({**data, "segments": []})
        self.assertRegex(alone["addresses"], r"^(\d+) of \1 addresses match$")
        self.assertEqual(alone["peak"], whole["peak"])

    def test_blocks_tile_and_frees_have_allocs(self):
        self.good("simulate", TINY, "--snapshot", self.path("a.pickle"))
        snapshot = pickle.loads(self.path("a.pickle").read_bytes())
        for segment in snapshot["segments"]:
            self.assertEqual(sum(b["size"] for b in segment["blocks"]), segment["total_size"])
        alive = set()
        for entry in snapshot["device_traces"][0]:
            if entry["action"] == "alloc":
                self.assertNotIn(entry["addr"], alive)
                alive.add(entry["addr"])
            elif entry["action"] == "free_completed":
                alive.remove(entry["addr"])
        blocks = {b["address"] for s in snapshot["segments"] for b in s["blocks"] if b["state"] == "active_allocated"}
        self.assertEqual(alive, blocks)
        categories = {e.get("category") for e in snapshot["device_traces"][0]}
        self.assertIn("unknown", categories, "memory_viz fails on categories without it")


if __name__ == "__main__":
    unittest.main()
