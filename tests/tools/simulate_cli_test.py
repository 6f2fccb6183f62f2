"""simulate, replay and list as a person and a script use them. TIDEMARK_UPDATE_GOLDEN=1 writes the golden files anew."""
import json
import os
import tempfile
import unittest
from pathlib import Path

import program
from program import SOURCE, TINY

GOLDEN = SOURCE / "tests/golden"
EAGER = SOURCE / "configs/runs/nanogpt-30m-rtx4070-eager.yaml"
KEYS = ["schema", "fits", "peak", "out_of_memory", "breakdown_at_peak", "largest_at_peak", "statistics", "fragmentation",
        "overheads", "lower_bounds", "time", "counts", "config"]
CATEGORIES = ["parameters", "gradients", "optimizer_state", "weight_casts", "activations", "logits_and_loss", "temporaries",
              "workspace", "inputs", "rounding", "other"]


class Simulate(program.ProgramTest):
    def golden(self, name, text):
        path = GOLDEN / name
        if os.environ.get("TIDEMARK_UPDATE_GOLDEN"):
            path.write_text(text)
        self.assertEqual(text, path.read_text())

    def test_whole_reports(self):
        self.golden("nanogpt-tiny.txt", self.good("simulate", TINY))
        self.golden("nanogpt-tiny.json", self.good("simulate", TINY, "--json"))
        self.golden("nanogpt-30m-rtx4070-eager.txt", self.good("simulate", EAGER))

    def test_the_main_job(self):
        report = self.report("simulate", EAGER)
        self.assertEqual(report["peak"]["allocated_bytes"], 6_211_779_584)
        self.assertEqual(report["peak"]["reserved_bytes"], 8_579_448_832)
        self.assertEqual(report["counts"]["events"], 10_038)
        evaluation_mib = (report["peak"]["reserved_bytes"] - report["without_evaluation"]["reserved_bytes"]) / 2**20
        self.assertEqual(evaluation_mib, 986)
        self.assertIn("evaluation alone costs 986.0 MiB of reserved", self.good("simulate", EAGER))

    def test_print_after(self):
        text = self.good("simulate", TINY, "--set", "passes=[{fuse: {}}]", "--print-after", "fuse")
        self.assertIn("on=kernel = ", text)
        self.assertIn("no such pass rewrites this run's graph", self.error("simulate", TINY, "--print-after", "fuse"))
        self.assertIn("no such pass rewrites this run's graph",
                      self.error("simulate", TINY, "--set", "passes=[{accumulate: {parts: 2}}]", "--print-after", "accumulate"))
        self.assertIn('unknown pass "fus"', self.error("simulate", TINY, "--print-after", "fus"))

    def test_keys_and_their_order(self):
        report = self.report("simulate", TINY)
        self.assertEqual(list(report)[:len(KEYS)], KEYS)
        self.assertEqual(report["schema"], "tidemark.report/1")
        self.assertIsNone(report["out_of_memory"])
        self.assertEqual([c["category"] for c in report["breakdown_at_peak"]], CATEGORIES)
        self.assertEqual(sum(c["bytes"] for c in report["breakdown_at_peak"]), report["peak"]["allocated_bytes"])
        self.assertEqual(list(report["peak"])[:6], ["requested_bytes", "allocated_bytes", "active_bytes", "reserved_bytes", "process_bytes", "at"])
        self.assertEqual(list(report["largest_at_peak"][0])[:6], ["tensor", "op", "dtype", "shape", "bytes", "why"])
        self.assertLessEqual(report["lower_bounds"]["live_bytes"], report["lower_bounds"]["best_static_bytes"])
        self.assertLessEqual(report["lower_bounds"]["best_static_bytes"], report["peak"]["allocated_bytes"])

    def test_a_reports_config_is_a_run_file(self):
        report = self.report("simulate", EAGER)
        again = self.report("simulate", "-", stdin=json.dumps(report["config"]))
        self.assertEqual(report, again)

    def test_a_run_that_does_not_fit(self):
        small = ["--set", "device.memory=24MiB", "--set", "device.overhead=0"]
        report = self.report("simulate", TINY, *small, code=1)
        self.assertFalse(report["fits"])
        failure = report["out_of_memory"]
        self.assertTrue(failure["message"].startswith("CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total capacity of 24.00 MiB"))
        self.assertEqual(failure["at"]["phase"], "backward")
        self.assertGreater(failure["requested_bytes"], 0)
        text = self.good("simulate", TINY, *small, code=1)
        self.assertIn("DOES NOT FIT in backward of step 0, micro-step 1", text)
        self.assertIn(failure["message"], text)

    def test_a_run_that_fits_only_by_giving_memory_back_says_so(self):
        settings = ["--set", "allocator.conf='expandable_segments:True'", "--set", "device.memory=7000MiB", "--set", "device.overhead=0"]
        text = self.good("simulate", EAGER, *settings)
        report = self.report("simulate", EAGER, *settings)
        self.assertGreater(report["statistics"]["num_alloc_retries"], 0)
        self.assertIn("only because cached memory was given back", text)

    def test_tape_and_placements_agree_with_the_report(self):
        with tempfile.TemporaryDirectory() as folder:
            tape, placements = Path(folder, "a.tape"), Path(folder, "p.csv")
            report = self.report("simulate", TINY, "--tape", tape, "--placements", placements)
            rows = [line.split(",") for line in placements.read_text().splitlines()]
            self.assertEqual(max(int(row[6]) for row in rows[1:]), report["peak"]["allocated_bytes"])
            self.assertEqual(max(int(row[7]) for row in rows[1:]), report["peak"]["reserved_bytes"])
            self.assertEqual(len(rows) - 1, report["counts"]["events"])
            again = self.report("replay", tape)
            self.assertEqual(again["statistics"], report["statistics"])
            gz = Path(folder, "a.tape.gz")
            self.good("simulate", TINY, "--tape", gz)
            self.assertEqual(gz.read_bytes()[:2], b"\x1f\x8b")
            self.assertEqual(self.report("replay", gz)["statistics"], report["statistics"])
            self.assertEqual(self.report("replay", "-", stdin=tape.read_bytes())["statistics"], report["statistics"])

    def test_the_readme_shows_the_real_output(self):
        command, output = (program.SOURCE / "README.md").read_text().split("```")[1:4:2]
        arguments = command.strip().splitlines()[0].split("#")[0].split()
        self.assertEqual(arguments[:2], ["./tools/run", "simulate"])
        shown, mark, rest = output.strip().partition("\n…")
        self.assertTrue(mark)
        self.assertEqual(rest, "")
        self.assertEqual(self.good("simulate", SOURCE / arguments[2], "-q")[:len(shown)], shown)

    def test_json_alone_is_on_standard_output(self):
        done = program.run("simulate", TINY, "--json")
        json.loads(done.out)
        for line in done.err.splitlines():
            self.assertTrue(line.startswith("note: "), line)

    def test_the_same_input_gives_the_same_bytes(self):
        self.assertEqual(self.good("simulate", TINY, "-v"), self.good("simulate", TINY, "-v", env={"LC_ALL": "C", "TZ": "Asia/Tokyo"}))

    def test_no_colour_in_a_pipe(self):
        self.assertNotIn("\x1b", self.good("simulate", TINY))

    def test_confs_side_by_side(self):
        with tempfile.TemporaryDirectory() as folder:
            tape = Path(folder, "a.tape")
            self.good("simulate", EAGER, "--tape", tape)
            table = self.good("replay", tape, "--conf", "", "--conf", "expandable_segments:True").splitlines()
            self.assertEqual(table[1].split()[:3], ['""', "5924.0", "8182.0"])
            self.assertEqual(table[2].split()[:3], ["expandable_segments:True", "5917.4", "7328.0"])
            reports = json.loads(self.good("replay", tape, "--conf", "", "--conf", "expandable_segments:True", "--json"))
            self.assertEqual([r["conf"] for r in reports["replays"][0]["rows"]], ["", "expandable_segments:True"])

    def test_importers_say_what_they_assumed(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "train_small.py")
            path.write_text("n_layer = 2\nn_head = 2\nn_embd = 64\ncompile = False\nbatch_size = 4 * 2\nblock_size = 64\neval_iters = 1\n")
            done = program.run("simulate", path)
            self.assertEqual(done.returncode, 0, done.err)
            self.assertIn("note: model.vocab: 50304", done.err)
            self.assertIn("batch 8 x 64, accumulation 40", done.out)
            self.assertEqual(program.run("simulate", path, "-q").err, "")

    def test_lists(self):
        for kind in ("models", "devices", "passes", "allocators", "optimizers"):
            with self.subTest(kind=kind):
                lines = self.good("list", kind).splitlines()
                names = [entry["name"] for entry in json.loads(self.good("list", kind, "--json"))]
                self.assertEqual([line.split()[0] for line in lines], names)
        self.assertIn("rtx4070", self.good("list", "devices"))

    def test_help_and_version(self):
        self.assertIn("simulate", self.good("--help"))
        self.assertIn("--set", self.good("simulate", "--help"))
        self.assertRegex(self.good("--version"), r"^tidemark \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    unittest.main()
