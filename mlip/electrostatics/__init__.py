"""Electrostatics of Gaussian charges and dipoles: bulk, slab, isolated; eV, Å, e; float64."""

from mlip.electrostatics.charges import EquilibratedCharges, FormalCharges
from mlip.electrostatics.equilibration import Equilibrium, equilibrate
from mlip.electrostatics.ewald import coulomb_energy, coulomb_matrix

__all__ = [
    "EquilibratedCharges",
    "Equilibrium",
    "FormalCharges",
    "coulomb_energy",
    "coulomb_matrix",
    "equilibrate",
]
