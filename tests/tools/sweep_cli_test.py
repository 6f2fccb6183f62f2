"""sweep: grids, resuming, sharing the work."""
import csv
import fcntl
import subprocess
import tempfile
import unittest
from pathlib import Path

import program
from program import PROGRAM, SOURCE, TINY

GRID = f"""
base: {TINY}
grid:
  training.micro_batch: [2, 4]
  passes: [[], [{{fuse: {{}}}}], [{{accumulate: {{parts: 4}}}}]]
"""


class Sweep(program.ProgramTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.grid = self.folder / "grid.yaml"
        self.grid.write_text(GRID)
        self.table = self.folder / "out.csv"

    def sweep(self, *more, **options):
        return self.good("sweep", self.grid, "-o", self.table, *more, **options)

    def rows(self):
        with self.table.open(newline="") as file:
            return list(csv.DictReader(file))

    def test_a_row_for_each_combination_in_order(self):
        self.assertIn("6 configurations: 6 simulated, 0 were there already", self.sweep())
        rows = self.rows()
        self.assertEqual([(r["training.micro_batch"], r["passes"]) for r in rows],
                         [(b, p) for b in ("2", "4") for p in ("[]", "[{fuse: {}}]", "[{accumulate: {parts: 4}}]")])
        simulated = self.report("simulate", TINY)
        plain = rows[3]
        for key in ("requested", "allocated", "active", "reserved", "process"):
            self.assertEqual(int(plain[f"{key}_bytes"]), simulated["peak"][f"{key}_bytes"])
        self.assertEqual(plain["fits"], "true")
        self.assertEqual(rows[2]["error"], "passes.accumulate.parts: a micro_batch of 2 can't be divided by 4")
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["grid.yaml", "out.csv"])

    def test_the_table_does_not_depend_on_threads(self):
        self.sweep("-j", "1")
        one = self.table.read_text()
        self.table.unlink()
        self.sweep("-j", "4")
        self.assertEqual(self.table.read_text(), one)

    def test_goes_on_where_it_was_interrupted(self):
        self.sweep()
        whole = self.table.read_text()
        lines = whole.splitlines(keepends=True)
        self.table.unlink()
        # Three whole rows, and one that was being written.
        (self.folder / "out.csv.part-0").write_text("".join(lines[:4]) + lines[4][:20])
        self.assertIn("3 simulated, 3 were there already", self.sweep())
        self.assertEqual(self.table.read_text(), whole)
        self.assertIn("0 simulated, 6 were there already", self.sweep())

    def test_rows_of_another_base_are_not_taken(self):
        self.sweep()
        self.assertIn("6 simulated", self.sweep("--set", "training.steps=2"))

    def test_processes_share_the_work(self):
        self.sweep()
        whole = self.table.read_text()
        self.table.unlink()
        first = self.sweep(env={"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"})
        self.assertIn("3 simulated, 0 were there already; ", first)
        self.assertIn("appears when the other processes are done", first)
        self.assertFalse(self.table.exists())
        second = self.sweep(env={"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"})
        self.assertIn("3 simulated, 3 were there already; ", second)
        self.assertEqual(self.table.read_text(), whole)

    def test_processes_at_the_same_time(self):
        running = [subprocess.Popen([PROGRAM, "sweep", self.grid, "-o", self.table], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                    env={"PMI_RANK": str(rank), "PMI_SIZE": "3"}) for rank in range(3)]
        self.assertEqual([process.wait(60) for process in running], [0, 0, 0])
        self.assertEqual(len(self.rows()), 6)

    def test_two_sweeps_into_one_table_do_not_mix(self):
        with (self.folder / "out.csv.part-0").open("w") as part:
            fcntl.flock(part, fcntl.LOCK_EX)
            self.assertIn("another sweep is writing it", self.error("sweep", self.grid, "-o", self.table))
        self.sweep()

    def test_a_base_inside_of_the_grid(self):
        self.grid.write_text("base: {model: {family: gpt2, layers: 1, hidden: 32, heads: 2, vocab: 64, context: 16}, "
                             "training: {micro_batch: 2}}\ngrid: {training.micro_batch: [1, 2, 3]}\n")
        self.sweep()
        self.assertEqual([r["training.micro_batch"] for r in self.rows()], ["1", "2", "3"])

    def test_the_shipped_grid(self):
        done = self.good("sweep", SOURCE / "configs/grids/nanogpt-30m.yaml", "-o", self.table)
        self.assertIn("36 configurations: 36 simulated", done)
        self.assertEqual([r for r in self.rows() if r["error"]], [])

    def test_errors(self):
        for text, message in [("grid: {a: [1]}\n", "base is missing"), (f"base: {TINY}\n", "grid is missing"),
                              (f"base: {TINY}\ngrid: {{training.steps: 3}}\n", "has to be a list"),
                              (f"base: {TINY}\ngird: {{}}\n", 'unknown key "gird"; known: base, grid; nearest: grid'),
                              ("base: nowhere.yaml\ngrid: {a: [1]}\n", "nowhere.yaml"),
                              (f"base: {TINY}\ngrid: {{training.micro_bach: [1]}}\n", "nearest: micro_batch")]:
            self.grid.write_text(text)
            self.assertIn(message, self.error("sweep", self.grid, "-o", self.table))
            self.assertFalse(self.table.exists())


if __name__ == "__main__":
    unittest.main()
