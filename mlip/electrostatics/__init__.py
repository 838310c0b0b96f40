"""Electrostatics of Gaussian charges and dipoles: bulk, slab, isolated; eV, Å, e; float64."""

from mlip.electrostatics.charges import EquilibratedCharges, FormalCharges
from mlip.electrostatics.equilibration import Equilibrium, equilibrate
from mlip.electrostatics.ewald import coulomb_energy, coulomb_matrix
from mlip.electrostatics.model_response import model_born_charges, model_dielectric_tensor
from mlip.electrostatics.response import born_charges, dielectric_tensor, field_forces, makov_payne
from mlip.electrostatics.split_charge import SplitCharges

__all__ = [
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
