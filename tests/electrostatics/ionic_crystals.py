"""Crystals for the tests of large systems: perturbed Li2O with the parameters of a charge equilibration."""

import torch

from mlip.electrostatics.functional import ChargeFunctional

CORNERS = torch.tensor([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], dtype=torch.float64)
LATTICE = 4.62  # Å


def rock_salt(n_cells=1, a=5.64):
    """Positions, cell and charges of NaCl, n_cells conventional cells along each vector."""
    positions = torch.cat([CORNERS, CORNERS + 0.5]) * a
    charges = torch.tensor([1.0] * 4 + [-1.0] * 4, dtype=torch.float64)
    return repeated(positions, a * torch.eye(3, dtype=torch.float64), charges, n_cells)


def lithium_oxide(n_cells, seed=0, rattle=0.1):
    """Positions, cell, charges (+1, -2) and widths (1.28, 0.66 Å) of Li2O, every atom moved at random."""
    tetrahedra = torch.cat([CORNERS + 0.25, CORNERS + 0.75])
    positions = torch.cat([tetrahedra, CORNERS]) * LATTICE
    charges = torch.tensor([1.0] * 8 + [-2.0] * 4, dtype=torch.float64)
    positions, cell, charges = repeated(positions, LATTICE * torch.eye(3, dtype=torch.float64), charges, n_cells)
    generator = torch.Generator().manual_seed(seed)
    positions = positions + rattle * torch.randn(positions.shape, generator=generator, dtype=torch.float64)
    return positions, cell, charges, torch.where(charges > 0, 1.28, 0.66).double()


def repeated(positions, cell, charges, n_cells):
    """A supercell."""
    steps = torch.arange(n_cells, dtype=torch.float64)
    shifts = torch.cartesian_prod(steps, steps, steps).reshape(-1, 3) @ cell
    return (shifts[:, None] + positions).reshape(-1, 3), cell * n_cells, charges.repeat(len(shifts))


def equilibration(charges, groups=1, polar=False, seed=1):
    """Electronegativities about 3 V (Li) and 8.5 V (O), hardness 4.8 and 12 eV/e^2, and dipoles if polar."""
    n = len(charges)
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lithium = charges > 0
    bias = noise(n, 3) if polar else charges.new_zeros(0, 3)
    inverse_polarizability = torch.where(lithium, 100.0, 10.0).double() if polar else charges[:0]
    group = torch.arange(n) % groups
    constraint = (torch.arange(groups)[:, None] == group).double()
    hard = charges.new_zeros(0, 0)
    chi = torch.where(lithium, 3.0, 8.5).double() + 0.5 * noise(n)
    hardness = torch.where(lithium, 4.8, 12.0).double()
    target = 0.3 * noise(groups)
    return ChargeFunctional(chi, hardness, bias, inverse_polarizability, constraint, target, hard), group
