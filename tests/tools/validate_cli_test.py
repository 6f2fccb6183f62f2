"""validate --backend host and --backend cuda; the latter on the phantom GPU, where that and the CUDA backend are built."""
import json
import os
import re
import subprocess
import unittest
from pathlib import Path

from program import BUILD, PROGRAM, SOURCE, TINY, ProgramTest

PHANTOM = SOURCE / "tools/phantom/phantom"
MIB = 1 << 20


def phantom_libraries():
    for folder in (os.environ.get("TIDEMARK_PHANTOM"), BUILD / "tools/phantom/lib", Path.home() / ".cache/tidemark/phantom/lib"):
        if folder and Path(folder, "libcudart.so.13").exists():
            return str(folder)
    return None


class Host(ProgramTest):
    def test_peaks_are_the_predicted_ones(self):
        for config in (TINY, SOURCE / "configs/runs/llama-tiny.yaml"):
            found = json.loads(self.good("validate", config, "--backend", "host", "--json"))
            self.assertTrue(found["agrees"])
            self.assertEqual(found["peak"]["predicted"], found["peak"]["measured"])
            self.assertEqual(found["findings"], [])
            simulated = json.loads(self.good("simulate", config, "--json"))["peak"]
            self.assertEqual(found["peak"]["measured"]["allocated_bytes"], simulated["allocated_bytes"])
            self.assertEqual(found["peak"]["measured"]["reserved_bytes"], simulated["reserved_bytes"])

    def test_passes_are_executed_as_predicted(self):
        for passes in ("{fuse: {}}", "{chunk_loss: {chunks: 4}}, {recompute: {policy: min-cut}}, {fuse: {}}",
                       "{offload: {what: activations, smallest: 1KiB}}", "{offload: {what: optimizer-state, smallest: 1KiB}}"):
            found = json.loads(self.good("validate", TINY, "--backend", "host", "--json", "--set", f"passes=[{passes}]"))
            self.assertTrue(found["agrees"], passes)
            self.assertEqual(found["findings"], [])

    def test_losses_fall_where_they_should(self):
        text = self.good("validate", TINY, "--backend", "host", "--set", "training.precision=fp32")
        losses = [float(x) for x in re.findall(r"^step \d+: loss ([0-9.]+)$", text, re.M)]
        self.assertEqual(len(losses), 3)
        for loss in losses:
            self.assertAlmostEqual(loss, 6.2383, delta=0.1)  # log 512
        self.assertTrue(text.endswith("executed as predicted\n"))

    def test_too_little_memory_is_found_where_it_was_predicted(self):
        small = ["--set", "device={name: small, memory: 12MiB, overhead: 0MiB, compute_capability: 8.9, multiprocessors: 46}"]
        found = json.loads(self.good("validate", TINY, "--backend", "host", "--json", *small))
        self.assertTrue(found["agrees"])
        self.assertIn("CUDA out of memory. Tried to allocate", found["out_of_memory"]["predicted"])
        self.assertEqual(found["out_of_memory"]["predicted_op"], found["out_of_memory"]["measured_op"])


class Cuda(ProgramTest):
    def setUp(self):
        self.libraries = phantom_libraries()
        if not (BUILD / "libtidemark_cuda.so").exists():
            self.skipTest("the CUDA backend isn't built: no nvcc or no cuBLAS")
        if self.libraries is None:
            self.skipTest("the phantom GPU isn't built")

    def on_phantom(self, *more, config=TINY, memory=12282):
        """The JSON of a run on the phantom, and the phantom's own summary."""
        env = {**os.environ, "TIDEMARK_PHANTOM": self.libraries, "PHANTOM_MEMORY_MIB": str(memory)}
        done = subprocess.run([PHANTOM, PROGRAM, "validate", config, "--backend", "cuda", "--json", *more], env=env,
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        summary = dict(re.findall(r"(\w+)=(\d+)", done.stderr.splitlines()[-1]))
        return json.loads(done.stdout), {k: int(v) for k, v in summary.items()}

    def test_segments_are_the_predicted_ones(self):
        found, device = self.on_phantom()
        self.assertTrue(found["agrees"])
        self.assertFalse(found["computes"])
        self.assertEqual(found["peak"]["measured"]["device_bytes"], found["peak"]["predicted"]["reserved_bytes"])
        self.assertEqual(device["peak_bytes"], found["peak"]["predicted"]["reserved_bytes"])
        self.assertEqual(device["end_bytes"], 0)
        self.assertEqual(device["ooms"], 0)

    def test_two_mib_too_little(self):
        found, _ = self.on_phantom()
        needed = found["peak"]["predicted"]["reserved_bytes"]
        found, device = self.on_phantom(memory=needed // MIB - 2)
        self.assertTrue(found["agrees"])
        self.assertIn("nll_loss_backward", found["out_of_memory"]["measured_op"])
        self.assertEqual(found["out_of_memory"]["predicted_op"], found["out_of_memory"]["measured_op"])
        self.assertEqual(device["end_bytes"], 0)
        self.assertEqual(device["ooms"], 1)

    def test_out_of_memory_at_every_allocation_in_turn(self):
        found, _ = self.on_phantom()
        needed = found["peak"]["predicted"]["reserved_bytes"] // MIB
        ops = set()
        for memory in range(2, needed, 2):
            found, device = self.on_phantom(memory=memory)
            self.assertTrue(found["agrees"], memory)
            self.assertEqual(device["end_bytes"], 0, memory)
            self.assertEqual(device["mallocs"], device["frees"], memory)
            ops.add(found["out_of_memory"]["measured_op"])
        self.assertGreater(len(ops), 1)

    def test_expandable_segments(self):
        found, device = self.on_phantom("--set", "allocator.conf=expandable_segments:True")
        self.assertTrue(found["agrees"])
        self.assertEqual(device["peak_bytes"], found["peak"]["predicted"]["reserved_bytes"])
        self.assertEqual(device["end_bytes"], 0)
        self.assertGreater(device["maps"], 0)

    def test_another_family(self):
        found, device = self.on_phantom(config=str(SOURCE / "configs/runs/llama-tiny.yaml"))
        self.assertTrue(found["agrees"])
        self.assertEqual(device["peak_bytes"], found["peak"]["predicted"]["reserved_bytes"])
        self.assertEqual(device["end_bytes"], 0)

    def test_a_machine_without_a_device(self):
        done = subprocess.run([PHANTOM, PROGRAM, "validate", TINY, "--backend", "cuda"], capture_output=True, text=True,
                              env={**os.environ, "TIDEMARK_PHANTOM": self.libraries, "CUDA_VISIBLE_DEVICES": "-1"})
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertRegex(done.stderr, r"error: the CUDA backend can't run here: no CUDA-capable device is detected \(")


class NoCuda(ProgramTest):
    def test_exit_code_3_and_a_line_that_helps(self):
        if Path("/dev/nvidia0").exists():
            self.skipTest("there is a GPU here")
        error = self.error("validate", TINY, "--backend", "cuda", code=3)
        self.assertRegex(error, r"the CUDA backend can't run here: .*(phantom|configure it again)")


if __name__ == "__main__":
    unittest.main()
