"""docs/what-if.md: its figures are the recorded ones, and what the program says today."""
import os
import subprocess
import sys
import unittest

import program
from program import PROGRAM, SOURCE

PAGE = SOURCE / "docs/what-if.md"

# nanoGPT's train.py under PyTorch 2.14 on a phantom GPU: allocated, reserved, reserved and 200 MiB, in MiB.
EAGER = {
    "as given": (5924, 8182, 8382),
    "batch 8": (3238, 4196, 4396),
    "length 256": (3236, 4194, 4394),
    "accumulation 8, batch 16": (5924, 8182, 8382),
    "accumulation 8, batch 8": (3238, 4196, 4396),
    "checkpointing each block": (5322, 6610, 6810),
    "batch 8, length 256, accumulation 8, checkpointing": (1722, 2208, 2408),
    "fp32": (7944, 8208, 8408),
    "expandable segments": (5917, 7328, 7528),
    "batch 32": (11305, 12968, 13168),
    "dropout 0.2": (5967, 8182, 8382),
    "no evaluation before training": (5926, 7196, 7396),
}
COMPILED = {
    "as given": (3567, 4212, 4412),
    "batch 8": (2062, 2222, 2422),
    "length 256": (2060, 2220, 2420),
    "accumulation 8, batch 16": (3567, 4212, 4412),
    "accumulation 8, batch 8": (2062, 2222, 2422),
    "checkpointing each block": (2954, 3424, 3624),
    "batch 8, length 256, accumulation 8, checkpointing": (1126, 1404, 1604),
    "fp32": (6373, 6602, 6802),
    "expandable segments": (3560, 4168, 4368),
    "batch 32": (6591, 8194, 8394),
    "dropout 0.2": (3608, 4214, 4414),
    "no evaluation before training": (3569, 4056, 4256),
}


def table(section):
    """The figures of a section's first table, by variant: allocated, reserved, process, verdict."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| ") or cells[0] == "variant":
            continue
        rows[cells[0]] = (*(int(cell.split()[0]) for cell in cells[1:4]), cells[4])
    return rows


class WhatIf(program.ProgramTest):
    def test_eager_figures_are_the_recorded_ones(self):
        rows = table("Eager")
        self.assertEqual({name: row[:3] for name, row in rows.items()}, EAGER)
        self.assertEqual([name for name, row in rows.items() if row[3] != "fits"], ["batch 32"])

    def test_compiled_figures_are_the_recorded_ones(self):
        rows = table("Compiled (torch.compile, later runs)")
        self.assertEqual({name: row[:3] for name, row in rows.items()}, COMPILED)

    def test_the_page_is_what_the_program_says(self):
        done = subprocess.run([sys.executable, "-B", SOURCE / "docs/make_what_if.py", "--check"], capture_output=True, text=True,
                              env={**os.environ, "TIDEMARK": PROGRAM})
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
