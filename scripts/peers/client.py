"""Starts a worker in its own environment, one thread, and asks it JSON questions over stdin / stdout."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]


def one_thread() -> dict[str, str]:
    """The environment of every code that is measured: one thread, and `mlip` from this checkout."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    path = f"{CHECKOUT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return os.environ | dict.fromkeys(threads, "1") | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


class Worker:
    """One calculator in one process; `ask("time", structure=..., ...)` waits for its answer."""

    def __init__(self, python: Path, script: str, model: Path):
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the worker
        self.process = subprocess.Popen(
            [python, HERE / script, "serve", model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=one_thread(),
        )
        self.versions = self.read()

    def ask(self, task: str, **arguments) -> dict:
        self.process.stdin.write(json.dumps({"task": task} | arguments, default=str) + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> dict:
        """The next JSON line; what a library prints while it is imported is passed over."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.log.seek(0)
        raise RuntimeError(f"{' '.join(map(str, self.process.args))} ended:\n{self.log.read()[-2000:]}")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.log.close()
