"""tidemark validate --backend pytorch: simulations against PyTorch itself, event by event."""
import json
import os
import subprocess
import unittest

import support
from support import TOP, report, tidemark

NANOGPT, LLAMA = TOP / "configs/runs/nanogpt-tiny.yaml", TOP / "configs/runs/llama-tiny.yaml"
RUNS = {
    "nanogpt": (NANOGPT, []),
    "nanogpt, evaluation, lengths": (NANOGPT, ["training.evaluation={every: 2, batches: 2}", "training.sequence=[64, 40]",
                                               "training.gradient_accumulation=1", "training.precision=amp-bf16"]),
    "nanogpt, bias, dropout, checkpoints": (NANOGPT, ["model.bias=true", "model.dropout=0.1", "passes=[{recompute: {policy: full}}]",
                                                      "training.optimizer={name: sgd, implementation: foreach, momentum: 0.9}"]),
    "nanogpt, attention by hand, for-loop": (NANOGPT, ["training.attention=eager", "training.precision=fp32",
                                                       "training.optimizer={name: adam, implementation: for-loop}"]),
    "llama": (LLAMA, []),
    "llama, bf16, expandable segments": (LLAMA, ["training.precision=bf16", "training.attention=math",
                                                 "allocator={backend: native, conf: 'expandable_segments:True'}"]),
    "qwen3": (LLAMA, ["model.family=qwen3", "model.head_dim=16", "training.grad_clip=0"]),
    "phi, evaluation": (LLAMA, ["model.family=phi", "model.kv_heads=4", "training.evaluation={every: 1, batches: 1}"]),
    "bert, checkpoints": (LLAMA, ["model.family=bert", "model.kv_heads=4", "passes=[{recompute: {policy: full}}]"]),
}
SMALL = "device={name: small, memory: 24MiB, compute_capability: 8.9, multiprocessors: 46, overhead: 0}"


def settings(values):
    return [word for value in values for word in ("--set", value)]


class ValidateWithPyTorch(support.InFolder):
    def test_every_event_is_identical(self):
        for name, (config, values) in RUNS.items():
            with self.subTest(name):
                found = report("validate", config, "--backend", "pytorch", *settings(values))
                self.assertTrue(found["events"]["identical"], found["events"])
                self.assertGreater(found["events"]["measured"], 500)
                self.assertEqual(found["peak"]["predicted"], found["peak"]["measured"])
                self.assertTrue(found["agrees"])

    def test_an_out_of_memory_is_the_predicted_one(self):
        done = tidemark("validate", NANOGPT, "--backend", "pytorch", "--set", SMALL)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"identical, \d+ events")
        self.assertIn("as predicted, it does not fit: CUDA out of memory. Tried to allocate 2.00 MiB.", done.stdout)

    def test_a_recording_from_elsewhere_and_the_first_difference(self):
        # The program that validate writes, run by hand as a person would on a machine of their own.
        script, name = self.folder / "run.py", self.folder / "run"
        done = tidemark("validate", NANOGPT, "--backend", "pytorch", "--script", script)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        python = os.environ.get("TIDEMARK_TORCH", os.path.expanduser("~/.cache/tidemark/torch")) + "/bin/python"
        phantom = TOP / "tools/phantom/phantom"
        subprocess.run([phantom, python, script, name], check=True, capture_output=True)

        recording = ["--backend", "pytorch", "--recording", f"{name}.pickle"]
        same = report("validate", NANOGPT, *recording)
        self.assertTrue(same["events"]["identical"])
        other = tidemark("validate", NANOGPT, *recording, "--set", "training.micro_batch=5", "--json")
        self.assertEqual(other.returncode, 1)
        difference = json.loads(other.stdout)["events"]["first_difference"]
        # The model is alike; the first batch isn't: 5 or 4 rows of 64 tokens of 8 bytes.
        self.assertIn("allocates 2560 bytes", difference["predicted"])
        self.assertIn("data of step 0", difference["predicted"])
        self.assertIn("allocates 2048 bytes", difference["measured"])
        self.assertIn("aten::_to_copy", difference["measured"])


if __name__ == "__main__":
    support.main()
