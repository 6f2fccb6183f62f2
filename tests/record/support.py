"""What the tests of record and of validate --backend pytorch share."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
TIDEMARK = os.environ.get("TIDEMARK", str(TOP / "build/release/tidemark"))
SKIPPED = 77  # as CMakeLists.txt tells ctest


def tidemark(*arguments, environment=None):
    return subprocess.run([TIDEMARK, *map(str, arguments)], capture_output=True, text=True, cwd=TOP,
                          env={**os.environ, **(environment or {})})


def report(*arguments):
    """The JSON that a command prints; it must end well."""
    done = tidemark(*arguments, "--json")
    assert done.returncode == 0, f"{arguments}: exit code {done.returncode}: {done.stderr}{done.stdout}"
    return json.loads(done.stdout)


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path


def main():
    """Runs the tests of the calling file, or says why not."""
    with tempfile.TemporaryDirectory() as folder:
        probe = tidemark("record", "-o", f"{folder}/probe", "--", "python", "-c", "import torch; torch.zeros(1, device='cuda')")
    if probe.returncode == 3:
        print(f"SKIPPED: {probe.stderr.strip()}")
        sys.exit(SKIPPED)
    unittest.main()
