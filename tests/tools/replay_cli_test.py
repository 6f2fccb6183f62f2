"""tidemark replay: packing problems of the MiniMalloc project, whose capacity is in the file's name."""
import unittest

import program
from program import SOURCE

INSTANCE = SOURCE / "tests/truth/minimalloc/A.1048576.csv"


class Minimalloc(program.ProgramTest):
    def test_the_offline_planner_fits_into_the_capacity(self):
        report = self.report("replay", INSTANCE, "--backend", "static")
        self.assertTrue(report["fits"])
        self.assertLessEqual(report["peak"]["reserved_bytes"], 1048576)

    def test_a_capacity_below_what_is_alive_does_not_do(self):
        alive = self.report("replay", INSTANCE, "--backend", "lower-bound")["peak"]["requested_bytes"]
        self.report("replay", INSTANCE, "--backend", "static", "--memory", f"{alive // 2}B", code=1)


if __name__ == "__main__":
    unittest.main()
