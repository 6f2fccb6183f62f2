"""tidemark record: programs written as people write them, on a GPU that isn't there."""
import gzip
import json
import signal
import subprocess
import time
import unittest
from collections import Counter

import support
from support import HERE, TIDEMARK, report, tidemark

KINDS = ("requested_bytes", "allocated_bytes", "active_bytes", "reserved_bytes")


def peaks(found):
    return {kind: found["peak"][kind] for kind in KINDS}


class Record(support.InFolder):
    def record(self, *command, options=(), code=0):
        """Records a program; returns (what went to standard error, the description or None, the tape's lines or None)."""
        done = tidemark("record", "-o", self.folder / "out", *options, "--", *command)
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        description = tape = None
        if (self.folder / "out.json").exists():
            description = json.loads((self.folder / "out.json").read_text())
            tape = gzip.decompress((self.folder / "out.tape.gz").read_bytes()).decode().splitlines()
        return done.stderr, description, tape

    def program(self, text):
        return "python", self.write("program.py", "import torch\n" + text)

    def test_nanogpt_has_the_peaks_that_are_simulated(self):
        _, description, tape = self.record("python", HERE / "train_nanogpt.py", "--out", self.folder / "ckpt.pt")
        self.assertEqual(peaks(description), peaks(report("simulate", HERE / "nanogpt.yaml")))
        phases = Counter(line.split()[1] for line in tape if line.startswith("p "))
        # 4 steps of 2 micro-steps; evaluations of two batches before steps 0 and 2.
        self.assertEqual((phases["forward"], phases["backward"], phases["evaluation"], phases["clip"], phases["optimizer"]),
                         (8, 8, 4, 4, 4))
        named = Counter(line.split()[2] for line in tape if line.startswith("t "))
        self.assertEqual(named["parameter"], 28)  # one weight is shared
        self.assertEqual(named["gradient"], 4 * 28)
        self.assertEqual(named["optimizer_state"], 3 * 28)
        self.assertIn("o AddmmBackward0 aten::mm", tape)
        self.assertIn("o aten::gelu @ MLP.forward", tape)

    def test_a_recorded_tape_and_snapshot_replay_to_what_was_recorded(self):
        _, description, _ = self.record("python", HERE / "train_nanogpt.py", "--dropout", "0.1")
        self.assertEqual(peaks(report("replay", self.folder / "out.tape.gz")), peaks(description))
        self.assertEqual(peaks(report("replay", self.folder / "out.pickle")), peaks(description))

    def test_transformers_has_the_peaks_that_are_simulated(self):
        errors, description, _ = self.record("python", HERE / "train_llama.py")
        self.assertEqual(peaks(description), peaks(report("simulate", HERE / "llama.yaml")))
        self.assertIn("find_packed_sequence_indices", errors)

    def test_an_exception_ends_the_program_but_not_the_recording(self):
        errors, description, tape = self.record(*self.program("x = torch.ones(1000, device='cuda')\nraise KeyError('why')\n"), code=2)
        self.assertEqual(description["exception"], "KeyError: 'why'")
        self.assertIn("a 0 4000", tape)
        self.assertIn("exit code 1", errors)

    def test_ways_to_leave(self):
        for leave, code in (("sys.exit(0)", 0), ("sys.exit(5)", 2), ("os._exit(0)", 0), ("os._exit(7)", 2)):
            with self.subTest(leave):
                program = self.program(f"import os, sys\nx = torch.ones(1000, device='cuda')\n{leave}\n")
                _, description, tape = self.record(*program, code=code)
                self.assertEqual(description["recording"]["events"], 1)
                self.assertIn("a 0 4000", tape)

    def test_a_request_to_end_is_passed_on_and_the_recording_kept(self):
        command = self.program("import time\nx = torch.ones(1000, device='cuda')\nprint('ready', flush=True)\ntime.sleep(600)\n")
        recording = subprocess.Popen([TIDEMARK, "record", "-o", self.folder / "out", "--", *command], stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL, text=True)
        self.assertEqual(recording.stdout.readline().strip(), "ready")
        time.sleep(0.2)
        recording.send_signal(signal.SIGTERM)
        recording.communicate(timeout=120)
        self.assertEqual(recording.returncode, 2)
        self.assertTrue((self.folder / "out.tape.gz").exists())

    def test_out_of_memory_is_exit_code_1_and_in_the_tape(self):
        program = self.program("kept = [torch.empty(2**30, dtype=torch.uint8, device='cuda') for _ in range(9)]\n")
        _, description, tape = self.record(*program, options=("--device", "rtx4060"), code=1)
        self.assertRegex(description["exception"], r"^OutOfMemoryError: CUDA out of memory. Tried to allocate 1024.00 MiB")
        self.assertEqual(sum(line.startswith("a ") for line in tape), 8)  # the last of them failed
        done = tidemark("replay", self.folder / "out.tape.gz", "--memory", "8188MiB", "--json")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(json.loads(done.stdout)["out_of_memory"]["requested_bytes"], 2**30)

    def test_the_device_of_choice(self):
        _, description, _ = self.record(*self.program("torch.ones(1, device='cuda')\n"), options=("--device", "h100"))
        listed = {d["name"]: d for d in json.loads(tidemark("list", "devices", "--json").stdout)}
        self.assertIn("H100", description["device"]["name"])
        self.assertEqual(description["device"]["multiprocessors"], 132)
        self.assertEqual(description["device"]["compute_capability"], "9.0")
        self.assertIn("h100", listed)

    def test_what_depends_on_values_is_said(self):
        errors, description, _ = self.record(*self.program(
            "x = torch.ones(1000, device='cuda')\nif x.sum() > 0:\n    print('never')\ny = x.nonzero()\n"))
        self.assertIn("program.py:3 <module>", errors)
        self.assertIn("aten::nonzero", errors)
        self.assertEqual(len(description["decided_by_zero"]), 1)

    def test_calls_that_the_history_lacks_are_in_the_tape(self):
        _, description, tape = self.record(*self.program(
            "x = torch.ones(2**20, device='cuda')\ndel x\ntorch.cuda.reset_peak_memory_stats()\ntorch.cuda.empty_cache()\n"
            "torch.cuda.synchronize()\ny = torch.ones(10, device='cuda')\n"))
        events = [line for line in tape if line[:2] in ("a ", "f ") or line in "rey"]
        self.assertEqual(events, ["a 0 4194304", "f 0", "r", "e", "y", "a 1 40"])
        self.assertEqual(description["peak"]["allocated_bytes"], 2**22)  # before the reset too

    def test_a_program_that_keeps_a_history_of_its_own_is_recorded_whole(self):
        _, _, tape = self.record(*self.program(
            "x = torch.ones(1000, device='cuda')\ntorch.cuda.memory._record_memory_history(max_entries=1)\n"
            "y = torch.ones(2000, device='cuda')\ntorch.cuda.memory._record_memory_history(enabled=None)\n"
            "z = torch.ones(3000, device='cuda')\n"))
        self.assertEqual([line for line in tape if line.startswith("a ")], ["a 0 4000", "a 1 8000", "a 2 12000"])

    def test_another_sitecustomize_still_runs(self):
        self.write("sitecustomize.py", "print('mine')\n")
        done = tidemark("record", "-o", self.folder / "out", "--", *self.program("torch.ones(1, device='cuda')\n"),
                        environment={"PYTHONPATH": str(self.folder)})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.splitlines()[0], "mine")

    def test_json_alone_is_on_standard_output(self):
        done = tidemark("record", "--json", "-o", self.folder / "out.tape", "--", *self.program(
            "print('hello')\ntorch.ones(1, device='cuda')\n"))
        self.assertEqual(json.loads(done.stdout)["schema"], "tidemark.record/1")
        self.assertIn("hello", done.stderr)
        self.assertTrue((self.folder / "out.tape").read_text().startswith("# tidemark tape 1\n"))

    def test_nothing_to_record_is_an_error(self):
        errors, description, _ = self.record(*self.program("print(torch.ones(3).sum())\n"), code=2)
        self.assertIsNone(description)
        self.assertRegex(errors, "error: record: .* never used PyTorch's CUDA device")
        self.assertRegex(tidemark("record", "-o", "x", "--", "no-such-program").stderr, 'error: .*"no-such-program"')


if __name__ == "__main__":
    support.main()
