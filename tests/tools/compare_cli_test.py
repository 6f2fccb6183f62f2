"""compare and fit as a person and a script use them."""
import json
import tempfile
import unittest
from pathlib import Path

import program
from program import SOURCE, TINY

EAGER = SOURCE / "configs/runs/nanogpt-30m-rtx4070-eager.yaml"


class Compare(program.ProgramTest):
    def rows(self, *arguments):
        report = self.report("compare", *arguments)
        self.assertEqual(report["schema"], "tidemark.compare/1")
        return report["base"], report["variants"]

    def test_rows_have_the_parts_of_a_report_and_differences(self):
        base, (row,) = self.rows(TINY, "--with", "training.micro_batch=2")
        for key in ("name", "fits", "peak", "out_of_memory", "breakdown_at_peak", "largest_at_peak", "time", "config", "passes"):
            self.assertIn(key, base)
            self.assertIn(key, row)
        for key in ("requested_bytes", "allocated_bytes", "reserved_bytes", "process_bytes"):
            self.assertEqual(row["difference"][key], row["peak"][key] - base["peak"][key])
        self.assertEqual(row["config"]["training"]["micro_batch"], 2)

    def test_every_pass_says_what_it_saves(self):
        base, rows = self.rows(EAGER, "--with", "passes=[{fuse: {}}]", "--with", "passes=[{chunk_loss: {chunks: 8}}]", "--with",
                               "passes=[{recompute: {policy: selective, ops: [_log_softmax, _to_copy]}}, {fuse: {}}]")
        fuse, chunked, cross_entropy = rows
        self.assertLess(fuse["peak"]["allocated_bytes"], base["peak"]["allocated_bytes"])
        self.assertLess(fuse["passes"][0]["traffic_bytes_after"], fuse["passes"][0]["traffic_bytes_before"])
        self.assertLess(chunked["passes"][0]["live_bytes_after"], chunked["passes"][0]["live_bytes_before"])
        # Of the loss only logits reach memory: 786 MiB each of this micro-step's, the one before's and their gradient.
        loss = next(c["bytes"] for c in cross_entropy["breakdown_at_peak"] if c["category"] == "logits_and_loss")
        self.assertLess(loss, 3 * 787 * 2**20)
        text = self.good("compare", EAGER, "--with", "passes=[{fuse: {}}]")
        self.assertRegex(text, r"fuse: highest live bytes [\d.]+ MiB \(-[\d.]+\), traffic of the run [\d.]+ GiB \(-[\d.]+ %\)")

    def test_variants_can_share_a_compile_cache(self):
        first = ("--set", "training.compile=first-run")
        same = ("--with", "allocator.conf=")
        apart, (again,) = self.rows(TINY, *first, *same)
        self.assertEqual(again["peak"], apart["peak"])
        shared, (known,) = self.rows(TINY, *first, *same, "--share-cache")
        self.assertEqual(shared["peak"], apart["peak"])
        later, _ = self.rows(TINY, "--set", "training.compile=true")
        self.assertEqual(known["peak"], later["peak"])
        self.assertNotEqual(known["peak"]["reserved_bytes"], shared["peak"]["reserved_bytes"])

    def test_a_variant_that_is_not_possible_is_a_row_that_says_why(self):
        _, (bad, good) = self.rows(TINY, "--with", "passes=[{accumulate: {parts: 3}}]", "--with", "training.micro_batch=2")
        self.assertEqual(bad, {"name": "passes=[{accumulate: {parts: 3}}]",
                               "impossible": "passes.accumulate.parts: a micro_batch of 4 can't be divided by 3"})
        self.assertIn("peak", good)
        text = self.good("compare", TINY, "--with", "passes=[{accumulate: {parts: 3}}]")
        self.assertIn("not possible", text)

    def test_fusion_stands_last(self):
        _, (row,) = self.rows(TINY, "--with", "passes=[{fuse: {}}, {recompute: {policy: min-cut}}]")
        self.assertIn("recompute has to stand before fuse", row["impossible"])

    def test_a_setting_that_means_nothing_is_an_error(self):
        message = self.error("compare", TINY, "--with", "training.micro_bach=2")
        self.assertRegex(message, r"\A--with training\.micro_bach=2: .*nearest: micro_batch\Z")
        self.assertIn("nearest: gelu", self.error("compare", TINY, "--with", "passes=[{recompute: {policy: selective, ops: [gelo]}}]"))

    def test_the_trace_has_every_variants_curve(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "t.json"
            self.good("compare", TINY, "--with", "training.micro_batch=2", "--trace", path)
            events = json.loads(path.read_text())["traceEvents"]
        names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
        self.assertEqual(names, {1: "as given", 2: "training.micro_batch=2"})
        for pid in names:
            self.assertGreater(sum(e["ph"] == "C" and e["pid"] == pid for e in events), 100)
            self.assertGreater(sum(e["ph"] == "X" and e["pid"] == pid for e in events), 5)

    def test_a_variant_says_what_its_memory_costs(self):
        text = self.good("compare", EAGER, "--with", "passes.recompute.policy=full")
        self.assertRegex(text, r"[\d.]+ MiB of reserved for [\d.]+ ms a step")
        self.assertIn("a lower bound that ranks variants", text)


class Fit(program.ProgramTest):
    def test_lines_to_paste_give_the_run_that_fits(self):
        fit = self.report("fit", TINY, "--budget", "225MiB")
        self.assertEqual(fit["schema"], "tidemark.fit/1")
        self.assertTrue(fit["fits"])
        self.assertLessEqual(fit["choice"]["process_bytes"], 225 * 2**20)
        text = Path(TINY).read_text() + "\n".join(fit["lines"]) + "\n"
        report = self.report("simulate", "-", stdin=text)
        self.assertEqual(report["peak"]["process_bytes"], fit["choice"]["process_bytes"])

    def test_the_front_falls_in_memory_and_rises_in_time(self):
        front = self.report("fit", TINY, "--budget", "225MiB")["front"]
        for a, b in zip(front, front[1:]):
            self.assertLess(a["step_us"], b["step_us"])
            self.assertGreater(a["process_bytes"], b["process_bytes"])

    def test_nothing_fits(self):
        fit = self.report("fit", TINY, "--budget", "100MiB", code=1)
        self.assertFalse(fit["fits"])
        self.assertIsNone(fit["choice"])

    def test_wrong_budgets(self):
        self.assertIn("lacks a unit", self.error("fit", TINY, "--budget", "12"))


if __name__ == "__main__":
    unittest.main()
