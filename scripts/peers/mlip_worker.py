"""Ours: `serve MODEL.pt`, an exported file through `mlip.load_calculator` with its defaults."""

import sys
from importlib.metadata import version

import torch
from ase.data import chemical_symbols
from serve import serve

import mlip


def load(path):
    calculator = mlip.load_calculator(path)
    known = [chemical_symbols[z] for z in calculator.metadata["elements"]]
    return calculator, known, {"mlip": mlip.__version__, "torch": torch.__version__, "ase": version("ase")}


if __name__ == "__main__":
    serve(load, sys.argv[2])
