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

    def test_several_instances_make_a_table(self):
        files = sorted(INSTANCE.parent.glob("*.csv"))
        self.assertEqual(len(files), 11)
        table = self.report("replay", *files, "--backend", "static")
        self.assertEqual([r["file"] for r in table["replays"]], [str(f) for f in files])
        for replay in table["replays"]:
            self.assertTrue(replay["rows"][0]["fits"], replay["file"])
            self.assertLessEqual(replay["rows"][0]["peak"]["reserved_bytes"], 1048576)
            self.assertLessEqual(replay["lower_bounds"]["live_bytes"], replay["lower_bounds"]["best_static_bytes"])
        text = self.good("replay", *files, "--backend", "static")
        for file in files:
            self.assertRegex(text, rf"(?m)^{file.name} .* fits$")


class Settings(program.ProgramTest):
    """--conf several times: the table, and the cheapest setting that fits."""
    # Eight pieces of 100 MiB, of which every second goes; then 150 MiB, which no hole takes.
    TAPE = "".join([f"a {k} {100 << 20}\n" for k in range(8)] + [f"f {k}\n" for k in range(0, 8, 2)] + [f"a 8 {150 << 20}\n"])

    def test_the_table_says_what_each_takes_and_which_is_cheapest(self):
        confs = ("", "max_split_size_mb:64", "garbage_collection_threshold:0.5", "expandable_segments:True")
        arguments = ["replay", "-", "--memory", "960MiB"] + [word for conf in confs for word in ("--conf", conf)]
        table = self.report(*arguments, stdin=self.TAPE)["replays"][0]
        self.assertEqual([row["conf"] for row in table["rows"]], list(confs))
        self.assertEqual([row["fits"] for row in table["rows"]], [True] * 4)
        self.assertEqual([row["retries"] for row in table["rows"]], [0] * 4)
        self.assertEqual(table["rows"][0]["needed_bytes"], 950 << 20)
        self.assertEqual(table["rows"][0]["cuda_mallocs"], 9)
        self.assertEqual(table["cheapest"], "", "the first of those that cost the same")
        text = self.good(*arguments, stdin=self.TAPE)
        self.assertIn("the cheapest that fits", text)
        self.assertIn("960.0 MiB are there; alive at once 800.0 MiB, a static plan takes 800.0", text)

    def test_retries_are_dearer_than_anything_else(self):
        confs = ["--conf", "", "--conf", "expandable_segments:True"]
        table = self.report("replay", "-", "--memory", "900MiB", *confs, stdin=self.TAPE)["replays"][0]
        self.assertEqual([(row["fits"], row["retries"]) for row in table["rows"]], [(True, 1), (True, 1)])
        self.assertEqual(table["rows"][0]["needed_bytes"], 950 << 20)
        self.assertIn("fits, after retries", self.good("replay", "-", "--memory", "900MiB", *confs, stdin=self.TAPE))

    def test_nothing_fits(self):
        confs = ["--conf", "", "--conf", "max_split_size_mb:64"]
        text = self.good("replay", "-", "--memory", "700MiB", *confs, stdin=self.TAPE, code=1)
        self.assertIn("none of these settings fits", text)
        self.assertIn("does not fit", text)
        self.assertIsNone(self.report("replay", "-", "--memory", "700MiB", *confs, stdin=self.TAPE, code=1)["replays"][0]["cheapest"])

    def test_files_of_their_own_take_one_setting(self):
        error = self.error("replay", "-", "--conf", "", "--conf", "", "--placements", "x", stdin="a 0 1\n")
        self.assertIn("--placements", error)

    # Two free blocks of one size in two segments.
    TIES = "".join(f"a {k} {10 << 20}\n" for k in range(4)) + "f 0\nf 2\na 4 10485760\n"

    def test_older_releases_go_by_address_so_both_ways_are_shown(self):
        old = ["replay", "-", "--framework", "pytorch-2.11"]
        self.assertEqual(set(self.report(*old, stdin=self.TIES)["address_orders"]), {"rising", "falling"})
        self.assertNotIn("address_orders", self.report(*old, "--addresses", "falling", stdin=self.TIES))
        self.assertNotIn("address_orders", self.report("replay", "-", stdin=self.TIES))
        self.assertIn("falling 40.0 MiB", self.good(*old, stdin=self.TIES))
        self.assertIn("  falling", self.good(*old, "--conf", "", "--conf", "max_split_size_mb:64", stdin=self.TIES))


class Reports(program.ProgramTest):
    def test_a_half_empty_segment_is_kept_by_somebody(self):
        tape = "a 0 5242880\nt 0 parameter w float32[1310720]\na 1 5242880\nf 1\n"
        # The peak of reserved is at the first event: 15 of the segment's 20 MiB are free.
        self.assertEqual(self.report("replay", "-", stdin=tape)["fragmentation"]["pinned"],
                         [{"segment": 0, "bytes": 20 << 20, "free_bytes": 15 << 20, "blocks": 1,
                           "pinned_by": [{"tensor": "w", "bytes": 5 << 20}]}])
        self.assertIn("15.0 of 20.0 free in segment 0, kept by w (5.0)", self.good("replay", "-", stdin=tape))

    def test_every_report_has_a_plan_beside_the_bound(self):
        bounds = self.report("replay", "-", stdin="a 0 1000\na 1 1\nf 0\n")["lower_bounds"]
        self.assertEqual(bounds, {"live_bytes": 1001, "best_static_bytes": 1536, "static_lower_bound_bytes": 1536,
                                  "best_static_plan": "first fit, largest first"})


if __name__ == "__main__":
    unittest.main()
