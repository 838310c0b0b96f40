"""A small potential with every local term, and a crystal of its elements."""

from functools import partial

import numpy as np
import torch
from ase import Atoms
from contract import STATISTICS

from mlip.models.born_mayer import BornMayer
from mlip.models.potential import Potential
from mlip.models.repulsion import ZBL
from mlip.models.spherical import NetworkEnergy, SphericalNetwork
from mlip.models.wall import Wall

NETWORK = partial(SphericalNetwork, cutoff=4.0, n_channels=4, l_max=2, n_basis=4, n_species=3)


def crystal(length: float = 5.2, repeat=(1, 1, 1), seed: int = 0) -> Atoms:
    """A triclinic cell of eight atoms, or a supercell; neutral with the usual charges; every atom off its site."""
    rng = np.random.default_rng(seed)
    cell = length * np.eye(3) + 0.4 * rng.normal(size=(3, 3))
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), -1).reshape(-1, 3)
    atoms = Atoms([3, 8, 3, 17, 3, 8, 3, 3], grid @ cell, cell=cell, pbc=True).repeat(repeat)
    atoms.positions += 0.15 * rng.normal(size=atoms.positions.shape)
    return atoms


def potential_of(head=None, n_layers: int = 2, born_mayer=BornMayer, **statistics) -> Potential:
    """A small potential with off-zero parameters; the native kernel in LAMMPS has no `born_mayer`.

    statistics  that change the usual ones
    """
    torch.manual_seed(0)
    terms = {
        "network": partial(NetworkEnergy, n_hidden=4), "repulsion": ZBL, "born_mayer": born_mayer, "wall": Wall,
        "electrostatics": head,
    }  # fmt: skip
    potential = Potential(partial(NETWORK, n_layers=n_layers), terms, STATISTICS | statistics).double()
    with torch.no_grad():
        for name, parameter in potential.named_parameters():
            # charge that bonds transfer is a product of these: small weights would move none
            parameter.add_((1.0 if "transfer" in name else 0.05) * torch.randn_like(parameter))
    return potential
