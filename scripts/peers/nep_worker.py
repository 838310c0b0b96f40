"""NEP4: `serve nep.txt`, through calorine's ASE calculator on the CPU."""

import sys
from importlib.metadata import version

from ase import Atoms
from calorine.calculators import CPUNEP
from random_models import SYMBOLS
from serve import serve


def load(path):
    calculator = CPUNEP(path)
    calculator.set_atoms(Atoms("Li", cell=[9, 9, 9], pbc=True))
    return calculator, SYMBOLS, {"calorine": version("calorine")}


if __name__ == "__main__":
    serve(load, sys.argv[2])
