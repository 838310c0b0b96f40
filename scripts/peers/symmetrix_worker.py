"""Symmetrix-XL: `serve MODEL` of a MACE checkpoint, through its ASE calculator."""

import os
import sys
from importlib.metadata import version

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # the file is ours
os.environ["SYMMETRIX_HOST_WORKER_BLAS"] = "off"  # faster on one thread

from random_models import SYMBOLS
from serve import serve
from symmetrix import Symmetrix


def load(path):
    return (
        Symmetrix(path, dtype="float32", execution_profile="speed"),
        SYMBOLS,
        {"symmetrix-xl": version("symmetrix-xl")},
    )


if __name__ == "__main__":
    serve(load, sys.argv[2])
