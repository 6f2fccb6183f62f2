"""First on PYTHONPATH of the programs that tidemark runs on the phantom GPU: prepares PyTorch once it has been imported.

Always: answers the questions that models ask of values on the device (tidemark_answers). With TIDEMARK_RECORD, a folder:
records the process (tidemark_recorder). Another sitecustomize that this one hides is run first.
"""
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def run_hidden_sitecustomize():
    paths = [p for p in sys.path if os.path.abspath(p or ".") != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec and spec.loader:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


class AfterTorch(importlib.abc.MetaPathFinder):
    """Calls `then` when torch has been imported."""

    def __init__(self, then):
        self.then = then

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            load = spec.loader.exec_module

            def load_and_prepare(module):
                load(module)
                self.then()

            spec.loader.exec_module = load_and_prepare
        return spec


def prepare():
    import tidemark_answers

    answers = tidemark_answers.Answers()
    folder = os.environ.get("TIDEMARK_RECORD")
    if folder:
        import tidemark_recorder

        tidemark_recorder.Recorder(folder, answers).arm()


run_hidden_sitecustomize()
sys.meta_path.insert(0, AfterTorch(prepare))
