"""Slabs: two periodic directions, in a box whose images along the normal are removed.

Sums over structure factors take a padded box and a correction: Yeh and Berkowitz, J. Chem. Phys. 111, 3155 (1999); net
charge: Ballenegger, Arnold, Cerda, J. Chem. Phys. 131, 094107 (2009). The mesh cuts the interaction off between
images: Rozzi et al., Phys. Rev. B 73, 205119 (2006). Both give the two-dimensional Ewald sum, -2 pi |z| / area.
"""

import math

import torch
from torch import Tensor

from mlip import units
from mlip.errors import InputError


def slab_normal(cell: Tensor, pbc: Tensor) -> Tensor:
    """Unit normal [3] of the two periodic vectors; cell [3, 3] Å, pbc [3] bool, two of them true."""
    plane = cell[pbc]
    normal = torch.linalg.cross(plane[0], plane[1])
    return normal / torch.linalg.vector_norm(normal)


def padded_slab_box(
    positions: Tensor, cell: Tensor, pbc: Tensor, width: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Box with the slab's two periodic vectors and a third along the normal, long enough for the tolerance.

    The images left after the correction decay as exp(-k gap), k the shortest in-plane wave, so the gap is
    chosen from k. Positions along the normal count as they are (not wrapped).

    returns  box [3, 3] Å and the unit normal [3]
    """
    plane, normal = cell[pbc], slab_normal(cell, pbc)
    with torch.no_grad():
        gram = torch.linalg.inv(plane @ plane.t())
        diagonal = gram[0, 1].abs()
        k2 = torch.minimum(torch.minimum(gram[0, 0], gram[1, 1]), gram[0, 0] + gram[1, 1] - 2 * diagonal)
        depth = -math.log(tolerance)
        gap = depth / (2 * math.pi * k2.sqrt()) + 2 * math.sqrt(depth) * width.max()
        height = positions @ normal
        height = height.max() - height.min() + gap
    return torch.stack([plane[0], plane[1], normal * height]), normal


def truncated_slab_box(positions: Tensor, cell: Tensor, pbc: Tensor, eta: float, tolerance: float) -> Tensor:
    """Two periodic vectors and a third along the normal, twice the reach of the interaction inside the slab.

    Positions along the normal count as they are (not wrapped). The result does not depend on the length.
    """
    plane, normal = cell[pbc], slab_normal(cell, pbc)
    height = (positions.detach() @ normal.detach()).aminmax()
    reach = float(height[1] - height[0]) + eta * math.sqrt(-2 * math.log(tolerance))
    return torch.stack([plane[0], plane[1], normal * (2.0 * reach)])


def slab_matrix(positions: Tensor, box: Tensor, normal: Tensor, width: Tensor, dipoles: bool) -> Tensor:
    """Correction to the interaction matrix in a padded box, so that charges minimise the corrected energy:

    A_ij = -(2 pi k_e / V) [ (z_i - z_j)^2 + s_i^2 + s_j^2 + L^2 / 6 ],  L the box along the normal,
    which is E = (2 pi k_e / V) [ M_z^2 - Q sum q (z^2 + s^2) - Q^2 L^2 / 12 ]. Dipoles: its derivatives in z.

    returns [n, n] eV/e^2, with dipoles [4 n, 4 n] (charges first)
    """
    n = positions.shape[0]
    volume = torch.linalg.det(box).abs()
    scale = 2 * math.pi * units.COULOMB / volume
    z = positions @ normal
    difference = z[:, None] - z
    length2 = box[2].square().sum()
    spread = width.square()[:, None] + width.square() + length2 / 6
    charge = -scale * (difference.square() + spread)
    if not dipoles:
        return charge
    mixed = (2 * scale * difference[:, :, None] * normal).reshape(n, 3 * n)
    both = (2 * scale * normal[:, None] * normal).repeat(n, n)
    return torch.cat([torch.cat([charge, mixed], 1), torch.cat([mixed.t(), both], 1)], 0)


def open_field(field: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """Field [3] V/Å on charges that flow: any on a molecule, along the normal of a slab, none in a bulk.

    Raises ValueError if it has a part along a periodic direction.
    """
    n_periodic, along = int(pbc.sum()), field
    if n_periodic == 2:
        normal = slab_normal(cell, pbc)
        along = normal * (normal @ field)
    elif n_periodic == 3:
        along = torch.zeros_like(field)
    periodic = float((field - along).detach().abs().max())
    if periodic > 1e-9:
        raise InputError(
            f"a field of {periodic} V/Å along a periodic direction has no energy -E.q r for charges that flow: "
            "keep it along open directions, or apply F = Z* E (mlip.electrostatics.born_charges)"
        )
    return along


def positions_in_field(positions: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """Positions [n, 3] Å for the energy -E.q r, which a strain moves along open directions only.

    An ion's image is as good as the ion, and r is not: along periodic directions the voltage E.a across a cell is what is
    fixed, so that -E.q r depends on fractional coordinates, its stress is zero, and no image is preferred.
    """
    lattice = cell[pbc]
    fraction = positions.detach() @ torch.linalg.pinv(lattice.detach())
    return positions - fraction @ (lattice - lattice.detach())
