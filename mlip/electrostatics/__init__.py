"""Electrostatics of Gaussian charges and dipoles: bulk, slab, isolated; eV, Å, e; float64.

A term relaxes the charges of each system in three steps (`batch.relaxed`):

    operator = coulomb_operator(system, width, tolerance, ...)   # dense, structure factors or particle mesh
    state = minimise(functional, operator, start)                # inference: preconditioned conjugate gradients
    state = newton_correct(functional, operator, start)          # training: exact to second derivatives

charges, bond_charges, atomic_charges (terms) -> batch -> solvers -> preconditioner -> functional -> operator -> pme (mesh, splines, pairs),
separable, structure_factors, slab -> kernels. Exact and dense, for tests and single systems: ewald, equilibration,
response.
"""

from mlip.electrostatics.atomic_charges import AtomicCharges
from mlip.electrostatics.bond_charges import BondCharges
from mlip.electrostatics.charges import EquilibratedCharges, FormalCharges, SplitCharges
from mlip.electrostatics.equilibration import Equilibrium, equilibrate
from mlip.electrostatics.ewald import coulomb_energy, coulomb_matrix
from mlip.electrostatics.response import (
    born_charges,
    dielectric_tensor,
    field_forces,
    makov_payne,
    model_born_charges,
    model_dielectric_tensor,
)

__all__ = [
    "AtomicCharges",
    "BondCharges",
    "EquilibratedCharges",
    "Equilibrium",
    "FormalCharges",
    "SplitCharges",
    "born_charges",
    "coulomb_energy",
    "coulomb_matrix",
    "dielectric_tensor",
    "equilibrate",
    "field_forces",
    "makov_payne",
    "model_born_charges",
    "model_dielectric_tensor",
]
