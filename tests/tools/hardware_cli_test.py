"""Recordings of a real GPU (tests/truth/h100): their allocator's addresses, and the events that were predicted for them."""
import gzip
import tempfile
import unittest
from pathlib import Path

import program
from program import SOURCE

RECORDINGS = SOURCE / "tests/truth/h100"
TINY = SOURCE / "configs/runs/nanogpt-tiny.yaml"
FULL = SOURCE / "configs/runs/nanogpt-30m-rtx4070-eager.yaml"


class Hardware(program.ProgramTest):
    def test_every_allocation_lands_on_the_recorded_address(self):
        """Under PyTorch 2.11's rules, with the addresses of segments that the driver gave."""
        matches = {}
        for file in sorted(RECORDINGS.glob("*.pickle.gz")):
            text = self.good("replay", file, "--framework", "pytorch-2.11")
            matches[file.name.removesuffix(".pickle.gz")] = next(line for line in text.splitlines() if line.endswith(" addresses match"))
        self.assertEqual(matches, {
            "30m-auto": "5101 of 5101 addresses match", "30m-expandable": "5101 of 5101 addresses match",
            "30m-oom": "2070 of 2070 addresses match", "neox-many-rows-checkpoint-fp16": "550 of 550 addresses match",
            "tiny-amp-bf16-auto": "916 of 916 addresses match", "tiny-amp-fp16": "951 of 951 addresses match",
            "tiny-bf16-auto": "718 of 718 addresses match", "tiny-fp32": "718 of 718 addresses match"})

    def validate(self, name, config, *settings, code=0):
        with tempfile.TemporaryDirectory() as folder:
            pickle = Path(folder, "run.pickle")
            pickle.write_bytes(gzip.decompress((RECORDINGS / f"{name}.pickle.gz").read_bytes()))
            pickle.with_suffix(".json").write_bytes((RECORDINGS / f"{name}.json").read_bytes())
            more = [word for setting in ("device=h100", *settings) for word in ("--set", setting)]
            return self.report("validate", config, *more, "--backend", "pytorch", "--recording", pickle, code=code)

    def test_events_are_the_predicted_ones(self):
        """These allocate in 2.11 as in 2.14; with flash attention, and with cuDNN's, which an H100 gets where nothing else is said."""
        for name, settings in {"tiny-amp-fp16": ["training.precision=amp-fp16", "training.attention=flash"],
                               "tiny-amp-bf16-auto": ["training.precision=amp-bf16"], "tiny-bf16-auto": ["training.precision=bf16"]}.items():
            with self.subTest(name):
                found = self.validate(name, TINY, *settings)
                self.assertTrue(found["events"]["identical"], found["events"])
                self.assertEqual(found["peak"]["predicted"], found["peak"]["measured"])
                self.assertFalse(found["phantom"])

    def test_what_another_release_does_otherwise_is_shown(self):
        """2.11's gradient of an embedding sorts with 12,288 bytes more; reserved bytes agree."""
        found = self.validate("30m-auto", FULL, code=1)
        self.assertEqual(found["events"]["first_difference"]["measured"], "allocates 150015 bytes in aten::embedding_dense_backward")
        self.assertEqual(found["peak"]["predicted"]["requested_bytes"], found["peak"]["measured"]["requested_bytes"])
        self.assertEqual(found["peak"]["predicted"]["reserved_bytes"], found["peak"]["measured"]["reserved_bytes"])

    def test_out_of_memory_happens_where_it_was_predicted(self):
        found = self.validate("30m-oom", FULL, "training.attention=flash", "allocator.conf=per_process_memory_fraction:0.085", code=1)
        predicted, measured = found["out_of_memory"]["predicted"], found["out_of_memory"]["measured"]
        said_by_pytorch = "is allocated by PyTorch, and"
        self.assertTrue(predicted.startswith("CUDA out of memory. Tried to allocate 1.54 GiB. GPU 0 has a total capacity of 79.18 GiB"), predicted)
        self.assertEqual(predicted.split(said_by_pytorch)[1], measured.split(said_by_pytorch)[1])
        self.assertEqual(found["peak"]["predicted"]["reserved_bytes"], found["peak"]["measured"]["reserved_bytes"])


if __name__ == "__main__":
    unittest.main()
