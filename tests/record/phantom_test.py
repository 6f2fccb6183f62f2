"""The phantom GPU's libraries by themselves, through ctypes: no PyTorch is needed.

TIDEMARK_PHANTOM is the folder of the libraries; TIDEMARK_REAL lists the real ones that they stand in for (";" between).
"""
import csv
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

LIBRARIES = Path(os.environ.get("TIDEMARK_PHANTOM", ""))
REAL = [Path(p) for p in os.environ.get("TIDEMARK_REAL", "").split(";") if p]
LAUNCHER = Path(__file__).resolve().parents[2] / "tools/phantom/phantom"
BEGIN = """
import ctypes as C, os
rt = C.CDLL("libcudart.so.13")
MIB = 1 << 20
def malloc(bytes):
    p = C.c_void_p()
    return rt.cudaMalloc(C.byref(p), C.c_size_t(bytes)), p.value
def free(address):
    return rt.cudaFree(C.c_void_p(address))
def memory():
    free, total = C.c_size_t(), C.c_size_t()
    assert rt.cudaMemGetInfo(C.byref(free), C.byref(total)) == 0
    return free.value // MIB, total.value // MIB
def attribute(number):
    value = C.c_int()
    assert rt.cudaDeviceGetAttribute(C.byref(value), number, 0) == 0
    return value.value
"""


def run(program, **environment):
    """Runs Python code on the phantom; returns the lines that it prints."""
    done = subprocess.run([LAUNCHER, sys.executable, "-c", BEGIN + program], capture_output=True, text=True,
                          env={**os.environ, "PHANTOM_QUIET": "1", **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def exported(path):
    """Name -> version node of the functions that a library exports."""
    out = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    names = (line.split()[-1] for line in out.splitlines() if line.split()[-2] in "TWi")
    return dict(name.replace("@@", "@").split("@", 1) if "@" in name else (name, "") for name in names)


class Libraries(unittest.TestCase):
    def test_every_function_of_the_real_ones_is_there_under_the_same_version(self):
        for real in REAL:
            with self.subTest(real.name):
                ours = exported(LIBRARIES / real.name)
                missing = {name: node for name, node in exported(real).items() if ours.get(name) != node}
                self.assertEqual(missing, {})

    def test_they_need_nothing_but_libc_and_each_other(self):
        for path in LIBRARIES.glob("*.so.*"):
            out = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
            needed = set(re.findall(r"NEEDED.*\[(.*)\]", out))
            self.assertLessEqual(needed, {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libcuda.so.1"}, path.name)

    def test_a_program_that_uses_no_gpu_is_left_alone(self):
        done = subprocess.run([LAUNCHER, "sh", "-c", "echo hello"], capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("hello\n", "", 0))


class Memory(unittest.TestCase):
    def test_capacity_is_what_is_beside_the_context(self):
        lines = run("print(*memory())\nprint(malloc(7892 * MIB)[0], malloc(1)[0], rt.cudaGetLastError(), rt.cudaGetLastError())",
                    PHANTOM_MEMORY_MIB="8192", PHANTOM_CONTEXT_MIB="300")
        self.assertEqual(lines, ["7892 8192", "0 2 2 0"])

    def test_large_requests_are_charged_in_steps_of_2_mib_and_small_ones_share_pages(self):
        self.assertEqual(run("""
malloc(3 * MIB)
print(memory()[0])
small = [malloc(1000)[1] for _ in range(3)]
print(memory()[0], small[1] - small[0])
for address in small:
    free(address)
print(memory()[0])
""", PHANTOM_MEMORY_MIB="100"), ["96", "94 1024", "96"])

    def test_addresses_rise_or_fall_and_are_the_same_in_every_run(self):
        program = "a, b = malloc(MIB)[1], malloc(MIB)[1]\nprint(hex(a), hex(b), a < b)"
        self.assertEqual(run(program), run(program))
        self.assertTrue(run(program)[0].endswith("True"))
        self.assertTrue(run(program, PHANTOM_ADDRESSES="falling")[0].endswith("False"))

    def test_a_second_free_is_an_error(self):
        self.assertEqual(run("a = malloc(MIB)[1]\nprint(free(a), free(a), free(0))"), ["0 1 0"])

    def test_a_stream_ordered_pool_keeps_its_chunk_until_a_synchronisation(self):
        self.assertEqual(run("""
p = C.c_void_p()
print(rt.cudaMallocAsync(C.byref(p), C.c_size_t(MIB), None), memory()[0])
rt.cudaFreeAsync(p, None)
print(memory()[0])
rt.cudaDeviceSynchronize()
print(memory()[0])
""", PHANTOM_MEMORY_MIB="100"), ["0 68", "68", "100"])

    def test_what_is_read_back_is_zero(self):
        self.assertEqual(run("""
host = C.create_string_buffer(b"xyz", 4)
address = C.c_void_p(malloc(MIB)[1])
rt.cudaMemcpy(address, host, C.c_size_t(4), 1)
rt.cudaMemcpy(host, address, C.c_size_t(4), 2)
print(host.raw)
"""), [r"b'\x00\x00\x00\x00'"])


class Device(unittest.TestCase):
    def test_the_environment_says_which(self):
        program = "print(attribute(75), attribute(76), attribute(16), attribute(39), attribute(97) // 1024)"
        self.assertEqual(run(program), ["8 9 46 1536 99"])
        self.assertEqual(run(program, PHANTOM_CC="90", PHANTOM_SM_COUNT="132"), ["9 0 132 2048 227"])

    def test_it_can_be_hidden(self):
        self.assertEqual(run("n = C.c_int(5)\nprint(rt.cudaGetDeviceCount(C.byref(n)), n.value)", CUDA_VISIBLE_DEVICES="-1"), ["100 0"])

    def test_a_forked_child_has_no_device(self):
        self.assertEqual(run("""
malloc(MIB)
child = os.fork()
if child == 0:
    os._exit(malloc(MIB)[0])
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""), ["3"])

    def test_events_complete_at_once_or_when_waited_for(self):
        program = """
event = C.c_void_p()
rt.cudaEventCreate(C.byref(event))
rt.cudaEventRecord(event, None)
before = rt.cudaEventQuery(event)
rt.cudaDeviceSynchronize()
print(before, rt.cudaEventQuery(event))
"""
        self.assertEqual(run(program), ["0 0"])
        self.assertEqual(run(program, PHANTOM_EVENTS="lazy"), ["600 0"])


class Log(unittest.TestCase):
    def test_totals_fit_together(self):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log.csv"
            run("a, b = malloc(3 * MIB)[1], malloc(5 * MIB)[1]\nfree(a)\nmalloc(10**13)", PHANTOM_LOG=str(log))
            rows = list(csv.DictReader(log.read_text().splitlines()))
        self.assertEqual([row["op"] for row in rows], ["context", "cudaMalloc", "cudaMalloc", "cudaFree", "oom", "summary"])
        self.assertEqual([int(row["total"]) >> 20 for row in rows], [0, 4, 10, 6, 6, 6])
        self.assertEqual(int(rows[-1]["bytes"]) >> 20, 10)


if __name__ == "__main__":
    if not (LIBRARIES / "libcudart.so.13").exists():
        print("SKIPPED: the phantom GPU is not built (no CUDA 13 headers here; tools/phantom/setup brings them)")
        sys.exit(77)
    unittest.main()
