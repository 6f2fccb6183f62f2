"""What the tests of the command line share: running the program, and the repository's folders."""
import json
import os
import subprocess
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("TIDEMARK", str(SOURCE / "build/release/tidemark"))
BUILD = Path(os.environ.get("TIDEMARK_BUILD", SOURCE / "build/release"))
TINY = str(SOURCE / "configs/runs/nanogpt-tiny.yaml")


def run(*arguments, stdin=None, env=None, timeout=120):
    """The finished process; stdin is text or bytes."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run([PROGRAM, *map(str, arguments)], input=data if data is not None else b"", capture_output=True,
                          env={**os.environ, **(env or {})}, timeout=timeout)
    done.out, done.err = done.stdout.decode(), done.stderr.decode()
    return done


class ProgramTest(unittest.TestCase):
    maxDiff = None

    def good(self, *arguments, code=0, **options):
        """Standard output of a run that has to end with `code`."""
        done = run(*arguments, **options)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.err}")
        return done.out

    def report(self, *arguments, **options):
        return json.loads(self.good(*arguments, "--json", **options))

    def error(self, *arguments, code=2, **options):
        """The one line of error of a run that has to fail, without `error: `."""
        done = run(*arguments, **options)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.out[:500]}{done.err[:500]}")
        self.assertEqual(done.out, "", f"{arguments}: nothing belongs on standard output")
        self.assertRegex(done.err, r"\Aerror: [^\n]+\n\Z", f"{arguments}: one line")
        return done.err.removeprefix("error: ").rstrip("\n")
