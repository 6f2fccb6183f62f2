"""Every class of bad input: one line of error with place and remedy, exit code 2, no partial file, no crash."""
import gzip
import json
import os
import pickle
import tempfile
import unittest
from pathlib import Path

import program
from program import TINY


class BadInput(program.ProgramTest):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, name, content):
        path = Path(self.folder.name, name)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    # Run files

    def test_unknown_key_names_the_nearest(self):
        path = self.file("a.yaml", Path(TINY).read_text().replace("micro_batch", "micro_bach"))
        error = self.error("simulate", path)
        self.assertRegex(error, r'a\.yaml:\d+: unknown key "micro_bach" in training; known: .*; nearest: micro_batch$')

    def test_wrong_type(self):
        self.assertIn('training.steps is "many"; it has to be a whole number', self.error("simulate", TINY, "--set", "training.steps=many"))

    def test_absurd_sizes(self):
        for key in ("model.layers", "model.hidden", "model.heads", "model.vocab", "model.context", "training.micro_batch",
                    "training.steps", "training.gradient_accumulation"):
            for value in ("0", "-1", "1000000000000000000", "99999999999999999999999999"):
                with self.subTest(key=key, value=value):
                    self.assertIn(key.split(".")[1], self.error("simulate", TINY, "--set", f"{key}={value}"))

    def test_products_that_overflow(self):
        error = self.error("simulate", TINY, "--set", "training.micro_batch=1000000000000", "--set", "model.vocab=1000000000000")
        self.assertIn("more than 1 EiB", error)

    def test_what_cannot_be_simulated(self):
        self.assertIn("pytorch-2.14", self.error("simulate", TINY, "--set", "framework=pytorch-9"))
        self.assertIn("known: native", self.error("simulate", TINY, "--set", "allocator.backend=nativ"))
        self.assertIn("Unrecognized", self.error("simulate", TINY, "--set", "allocator.conf='max_split:3'"))

    def test_not_yaml(self):
        self.assertRegex(self.error("simulate", self.file("a.yaml", "model: {\n")), r"a\.yaml:\d+: not YAML")
        self.assertIn("not YAML", self.error("simulate", self.file("b.yaml", "[" * 100000)))
        self.error("simulate", self.file("c.yaml", os.urandom(4096)))
        self.error("simulate", self.file("d.yaml", b"\x00" * 100))

    # Paths

    def test_unreadable(self):
        self.assertIn("No such file", self.error("simulate", "/nowhere/a.yaml"))
        self.assertIn("Is a directory", self.error("simulate", self.folder.name))
        self.assertIn("No such file", self.error("replay", "/nowhere/a.tape"))
        self.assertIn("directory", self.error("replay", self.folder.name).lower())

    def test_unwritable(self):
        for option in ("--trace", "--tape", "--placements", "--snapshot"):
            with self.subTest(option=option):
                self.assertIn("can't be written", self.error("simulate", TINY, option, "/nowhere/a.json"))
                self.assertIn("can't be written", self.error("simulate", TINY, option, self.folder.name))
        self.assertEqual(list(Path(self.folder.name).iterdir()), [])

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_full_disk(self):
        for option in ("--trace", "--tape", "--placements", "--snapshot"):
            with self.subTest(option=option):
                self.assertIn("No space left", self.error("simulate", TINY, option, "/dev/full"))
        self.assertTrue(Path("/dev/full").is_char_device(), "the device itself was replaced by a file")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_standard_output_on_a_full_disk(self):
        import subprocess
        with open("/dev/full", "wb") as full:
            done = subprocess.run([program.PROGRAM, "simulate", TINY, "--json"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"No space left", done.stderr)

    def test_a_failed_run_leaves_no_file(self):
        path = self.file("a.tape", "a 0 512\nf 1\n")
        out = Path(self.folder.name, "p.csv")
        self.error("replay", path, "--placements", out)
        self.assertEqual(sorted(p.name for p in Path(self.folder.name).iterdir()), ["a.tape"])

    # Tapes

    def test_malformed_tapes(self):
        for content, message in (("a 0\n", ":1: "), ("a 0 512\na 0 512\n", ":2: "), ("f 3\n", ":1: "), ("a 0 -5\n", ":1: "),
                                 ("a 0 512\nf 0\nf 0\n", ":3: "), ("q 1\n", ":1: "), ("a 0 99999999999999999999\n", ":1: "),
                                 ("a x 512\n", ":1: ")):
            with self.subTest(content=content):
                self.assertIn("a.tape" + message, self.error("replay", self.file("a.tape", content)))

    def test_truncated_gzip(self):
        packed = gzip.compress(b"a 0 512\n" * 1 + b"# comment\n" * 10000)
        self.error("replay", self.file("a.tape.gz", packed[:len(packed) // 2]))

    # Snapshots

    def test_pickles_that_would_run_code(self):
        marker = Path(self.folder.name, "ran")

        class Evil:
            def __reduce__(self):
                return os.system, (f"touch {marker}",)

        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with self.subTest(protocol=protocol):
                error = self.error("replay", self.file("evil.pickle", pickle.dumps({"segments": [Evil()]}, protocol=protocol)))
                self.assertRegex(error, r"evil\.pickle: byte \d+: opcode \w+ could run code")
        self.assertFalse(marker.exists())

    def test_pickles_that_are_not_snapshots(self):
        self.assertIn("not a memory snapshot", self.error("replay", self.file("a.pickle", pickle.dumps({"a": 1}))))
        self.assertIn("not a memory snapshot", self.error("replay", self.file("b.pickle", pickle.dumps({"segments": [3]}))))
        self.assertIn("not a memory snapshot", self.error("replay", self.file("c.pickle", pickle.dumps({"segments": [{}]}))))

    def test_truncated_pickles(self):
        whole = pickle.dumps({"segments": [], "device_traces": [[{"action": "alloc", "addr": 1 << 40, "size": 512}]]})
        for length in range(2, len(whole)):
            with self.subTest(length=length):
                self.assertRegex(self.error("replay", self.file("a.pickle", whole[:length])), r"byte \d+: the pickle is truncated")

    def test_lengths_beyond_the_file(self):
        # BINUNICODE8 of 2^60 bytes; LONG4 of 2^31 - 1; a memo entry of 2^32 - 1.
        for content in (b"\x80\x04\x8d" + (1 << 60).to_bytes(8, "little"), b"\x80\x04\x8b\xff\xff\xff\x7f", b"\x80\x04Nr\xff\xff\xff\xff."):
            with self.subTest(content=content):
                self.error("replay", self.file("a.pickle", content))

    def test_json_that_is_not_a_snapshot(self):
        self.assertIn("not JSON", self.error("replay", self.file("a.json", '{"segments": [')))
        self.assertIn("not a memory snapshot", self.error("replay", self.file("a.json", "{}")))
        self.assertIn("not JSON", self.error("replay", self.file("a.json", "{" + "\x00")))
        deep = '{"segments":' + "[" * 2_000_000
        self.error("replay", self.file("deep.json", deep))

    def test_segments_that_contradict_themselves(self):
        def snapshot(*segments):
            return self.file("s.json", json.dumps({"segments": list(segments), "device_traces": [[]]}))

        block = {"size": 512, "requested_size": 512, "state": "active_allocated"}
        self.assertIn("don't fit into it", self.error("replay", snapshot({"address": 0, "total_size": 256, "blocks": [block]})))
        self.assertIn("overlap", self.error("replay", snapshot({"address": 0, "total_size": 512, "blocks": [block]},
                                                               {"address": 256, "total_size": 512, "blocks": [block]})))

    # The command line

    def test_usage(self):
        self.assertIn("a command is missing", self.error())
        self.assertRegex(self.error("simulat", TINY), 'unknown command "simulat"; known: .*; nearest: simulate')
        self.assertRegex(self.error("simulate", TINY, "--jsno"), 'unknown option "--jsno"; known: .*; nearest: --json')
        self.assertIn("CONFIG is required", self.error("simulate"))
        self.assertIn("lacks a unit", self.error("replay", "/dev/null", "--memory", "12282"))
        self.assertIn("unknown unit", self.error("replay", "/dev/null", "--memory", "12282Mib"))
        self.error("replay", self.file("e.tape", "a 0 512\n"), "--fraction", "1.5")
        self.assertIn("pytorch-2.14", self.error("replay", self.file("e.tape", "a 0 512\n"), "--framework", "pytorch-1"))
        self.error("list", "device")
        self.error("replay", self.file("e.tape", "a 0 512\n"), "--events", "never")


if __name__ == "__main__":
    unittest.main()
