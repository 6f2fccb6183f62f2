"""explain and the page for browsers."""
import json
import tempfile
import unittest
from pathlib import Path

import program
from program import SOURCE, TINY

EAGER = SOURCE / "configs/runs/nanogpt-30m-rtx4070-eager.yaml"
BATCH_32 = "--set=training.micro_batch=32"


class Explain(program.ProgramTest):
    def message(self):
        report = self.report("simulate", EAGER, BATCH_32, code=1)
        return report["out_of_memory"]["message"]

    def test_every_byte_at_the_peak_has_a_reason(self):
        alive = self.report("explain", EAGER)["alive"]
        report = self.report("simulate", EAGER)
        self.assertEqual(alive["allocated_bytes"], report["peak"]["allocated_bytes"])
        self.assertEqual(alive["breakdown"], report["breakdown_at_peak"])
        rounding = next(c["bytes"] for c in alive["breakdown"] if c["category"] == "rounding")
        self.assertEqual(sum(g["bytes"] for g in alive["groups"]) + rounding, alive["allocated_bytes"])
        for group in alive["groups"]:
            self.assertTrue(group["why"], group)

    def test_blocks_share_a_line(self):
        text = self.good("explain", EAGER)
        self.assertIn("144.0    6 x result of aten::mm in h.*.mlp.c_fc float16[8192, 1536]", text)
        self.assertIn("saved for GeluBackward0 in h.*.mlp", text)

    def test_a_failed_request_is_found(self):
        explained = self.report("explain", self.message(), EAGER, BATCH_32)
        self.assertEqual(explained["schema"], "tidemark.explain/1")
        self.assertTrue(explained["reproduced"])
        (request,) = explained["requests"]
        self.assertEqual(request["op"], "NllLossBackward0 aten::nll_loss_backward @ model")
        self.assertEqual(request["requested_bytes"], 32 * 512 * 50304 * 4)
        self.assertEqual(explained["alive"]["allocated_bytes"], request["allocated_before_bytes"])

    def test_a_request_of_another_card_is_suspected(self):
        message = ("CUDA out of memory. Tried to allocate 3.07 GiB (GPU 0; 10.00 GiB total capacity; 4.69 GiB already allocated; "
                   "1.00 GiB free; 6 GiB reserved in total by PyTorch)")
        explained = self.report("explain", message, EAGER, BATCH_32)
        self.assertFalse(explained["reproduced"])
        self.assertEqual(explained["message"]["allocated"], "4.69 GiB")
        self.assertGreater(len(explained["requests"]), 1)
        distances = [abs(r["allocated_before_bytes"] - 4.69 * 2**30) for r in explained["requests"]]
        self.assertEqual(distances, sorted(distances))
        text = self.good("explain", message, EAGER, BATCH_32)
        self.assertIn("REQUESTS OF 3.07 GiB", text)
        self.assertIn("of a card with 10.00 GiB, this configuration of one with 11.99 GiB", text)

    def test_wordings_of_other_versions(self):
        for message, total, allocated in [
                ("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacty of 10.75 GiB of which 5.62 MiB is free. Including "
                 "non-PyTorch memory, this process has 10.74 GiB memory in use. Of the allocated memory 9.88 GiB is allocated by PyTorch, and "
                 "1.00 MiB is reserved by PyTorch but unallocated.", "10.75 GiB", "9.88 GiB"),
                ("CUDA out of memory. Allocation was preemptively rejected because it would exceed per_process_memory_fraction limit. "
                 "Requested size: 20.00 MiB", "", "")]:
            found = self.report("explain", message, EAGER)["message"]
            self.assertEqual((found["tried"], found["total"], found["allocated"]), ("20.00 MiB", total, allocated))

    def test_errors(self):
        self.assertIn("quote PyTorch's whole text", self.error("explain", "out of memory", TINY))
        self.assertIn("never asks for 99.07 GiB", self.error("explain", "Tried to allocate 99.07 GiB. GPU 0", TINY))
        self.error("explain")


class Html(program.ProgramTest):
    def test_the_page_needs_no_network_and_has_the_peak(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.html"
            report = self.report("simulate", EAGER, "--html", path)
            page = path.read_text()
        self.assertNotIn("http://", page.replace("http://www.w3.org/2000/svg", ""))
        self.assertNotIn("https://", page.replace("https://docs.pytorch.org", ""))
        data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
        self.assertEqual(data["report"]["peak"], report["peak"])
        curve = data["curve"]
        self.assertEqual(max(curve["reserved"]), report["peak"]["reserved_bytes"])
        sums = [sum(column[i] for column in curve["allocated"]) for i in range(len(curve["reserved"]))]
        self.assertEqual(max(sums), report["peak"]["allocated_bytes"])
        self.assertEqual(sums[curve["peak"]], max(sums))
        self.assertLess(len(page), 1_000_000)


if __name__ == "__main__":
    unittest.main()
