"""Born charges, dielectric tensor, fields and charged-cell correction against limits and finite differences."""

import math

import pytest
import torch
from charged_cells import random_cell

from mlip.electrostatics import (
    born_charges,
    coulomb_energy,
    dielectric_tensor,
    equilibrate,
    field_forces,
    makov_payne,
)
from mlip.units import COULOMB

BULK, SLAB, ISOLATED = (torch.tensor(p) for p in ([True] * 3, [True, True, False], [False] * 3))
CUBE = torch.eye(3, dtype=torch.float64)


def born(positions, cell, pbc, seed=1, polar=True, **settings):
    _, _, chi, width = random_cell(len(positions), seed)
    positions = positions.clone().requires_grad_(True)
    more = {"polarizability": 0.05} if polar else {}
    result = equilibrate(positions, cell, pbc, 4 * chi, 4.0, width + 0.3, 0.0, **more)
    return born_charges(positions, cell, pbc, result.charges, result.dipoles if polar else None, **settings)


def test_lattice_images_change_no_born_charge():
    positions, cell, _, _ = random_cell(6)
    moved = positions.clone()
    moved[1] += cell[0] - 2 * cell[2]
    moved[4] -= cell[1]
    assert (born(positions, cell, BULK) - born(moved, cell, BULK)).abs().max() < 1e-10


@pytest.mark.parametrize("pbc", [BULK, SLAB, ISOLATED])
def test_acoustic_sum_rule(pbc):
    positions, cell, _, _ = random_cell(6)
    assert born(positions, cell, pbc).sum(0).abs().max() < 1e-10


def test_molecule_has_the_derivative_of_its_dipole_moment():
    positions, _, _, _ = random_cell(4)
    _, _, chi, width = random_cell(4, 1)

    def moment(r):
        result = equilibrate(r, None, False, 4 * chi, 4.0, width + 0.3, 0.0, polarizability=0.05)
        return result.charges @ r + result.dipoles.sum(0)

    exact = torch.autograd.functional.jacobian(moment, positions).permute(1, 0, 2)
    z = born(positions, torch.zeros(3, 3, dtype=torch.float64), ISOLATED, sum_rule=False)
    assert (z - exact).abs().max() < 1e-10


def test_molecule_in_a_large_periodic_box_is_the_molecule():
    positions = 0.7 * random_cell(4)[0]
    alone = born(positions, torch.zeros(3, 3, dtype=torch.float64), ISOLATED)
    errors = [(born(positions, size * CUBE, BULK) - alone).abs().max().item() for size in (15.0, 30.0)]
    assert errors[1] < 0.02 and errors[1] < 0.3 * errors[0]


def test_batch_of_bulk_slab_and_molecule_equals_one_by_one():
    systems = [(random_cell(n, n), pbc) for n, pbc in ((3, BULK), (4, SLAB), (5, ISOLATED))]
    positions = torch.cat([s[0][0] for s in systems]).requires_grad_(True)
    parts, singles, first = [], [], 0
    for (_, cell, chi, width), pbc in systems:
        own = positions[first : first + len(chi)]
        parts.append(equilibrate(own, cell, pbc, 4 * chi, 4.0, width + 0.3, 0.0).charges)
        alone = own.detach().requires_grad_(True)
        charges = equilibrate(alone, cell, pbc, 4 * chi, 4.0, width + 0.3, 0.0).charges
        singles.append(born_charges(alone, cell, pbc, charges))
        first += len(chi)
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor([3, 4, 5]))
    cells, pbcs = torch.stack([s[0][1] for s in systems]), torch.stack([s[1] for s in systems])
    together = born_charges(positions, cells, pbcs, torch.cat(parts), batch=batch)
    assert (together - torch.cat(singles)).abs().max() < 1e-10


def test_polarisable_ions_screen_their_charge_without_moving_it():
    """Fixed charges: the sum rule is exact without correction, and Z* is what the dipoles of moved ions give."""
    positions, cell, charges, width = random_cell(5)
    charges = charges - charges.mean()
    group = torch.arange(5)

    def relaxed(r):
        return equilibrate(r, cell, True, 0.0, 1.0, width + 0.3, 0.0, group, charges, polarizability=0.05)

    leaf = positions.clone().requires_grad_(True)
    z = born_charges(leaf, cell, BULK, charges, relaxed(leaf).dipoles, sum_rule=False)
    assert z.sum(0).abs().max() < 1e-10
    step = torch.zeros_like(positions)
    step[2, 1] = 1e-4
    slow = (relaxed(positions + step).dipoles.sum(0) - relaxed(positions - step).dipoles.sum(0)) / 2e-4
    assert (z[2, :, 1] - slow - charges[2] * CUBE[1]).abs().max() < 1e-7


def test_born_charges_can_be_trained_on():
    positions, cell, chi, width = random_cell(3)

    def loss(r, x):
        charges = equilibrate(r, cell, True, x, 4.0, width + 0.3, 0.0, tolerance=1e-12).charges
        return born_charges(r, cell, BULK, charges, create_graph=True).square().sum()

    leaf = positions.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(leaf, x), (4 * chi).requires_grad_(True), atol=1e-6)


def test_cubic_lattice_of_dipoles_obeys_clausius_mossotti():
    length, polarizability = 4.0, 0.15
    eps = dielectric_tensor(torch.zeros(1, 3), length * CUBE, 0.3, polarizability)
    x = 4 * math.pi / 3 * COULOMB * polarizability / length**3
    # narrow Gaussians do not overlap; the self term 1 / (6 sqrt(pi) s^3) stiffens the dipole
    stiffer = 1 / (1 / polarizability + COULOMB / (6 * math.sqrt(math.pi) * 0.3**3))
    y = 4 * math.pi / 3 * COULOMB * stiffer / length**3
    assert y < x
    assert (eps - (1 + 2 * y) / (1 - y) * CUBE).abs().max() < 1e-9


def test_compact_groups_polarise_and_free_charge_is_refused():
    positions = torch.tensor([[0.0, 0, 0], [1.2, 0.0, 0]], dtype=torch.float64)
    system = (positions, 6.0 * CUBE, 0.6, 0.1)
    four = torch.cat([positions, positions + 3.0])
    group = torch.tensor([0, 0, 1, 1])
    rigid = dielectric_tensor(four, 6.0 * CUBE, 0.6, 0.1)
    flexible = dielectric_tensor(four, 6.0 * CUBE, 0.6, 0.1, hardness=5.0, charge_group=group)
    assert flexible[0, 0] > rigid[0, 0] + 0.05 and (flexible - flexible.T).abs().max() < 1e-12
    image = four.clone()
    image[3] += 6.0
    assert (dielectric_tensor(image, 6.0 * CUBE, 0.6, 0.1, 5.0, group) - flexible).abs().max() < 1e-10
    with pytest.raises(ValueError, match="respond as a metal"):
        dielectric_tensor(*system, hardness=5.0)
    with pytest.raises(ValueError, match="must be compact"):
        dielectric_tensor(four, 6.0 * CUBE, 0.6, 0.1, 5.0, torch.tensor([0, 1, 1, 0]))


def test_field_forces_of_a_molecule_are_those_of_the_functional():
    positions, _, chi, width = random_cell(4)
    field = torch.tensor([0.01, -0.02, 0.03], dtype=torch.float64)

    def forces(scale):
        r = positions.clone().requires_grad_(True)
        energy = equilibrate(r, None, False, 4 * chi, 4.0, width + 0.3, 0.0, field=scale * field).energy
        return -torch.autograd.grad(energy, r)[0]

    leaf = positions.clone().requires_grad_(True)
    charges = equilibrate(leaf, None, False, 4 * chi, 4.0, width + 0.3, 0.0).charges
    z = born_charges(leaf, torch.zeros(3, 3, dtype=torch.float64), ISOLATED, charges)
    assert ((forces(1e-3) - forces(-1e-3)) / 2e-3 - field_forces(z, field)).abs().max() < 1e-8


def test_makov_payne_takes_the_images_of_a_charged_ion_away():
    cell = torch.tensor([[20.0, 1.0, 0.0], [0.0, 24.0, 2.0], [3.0, 0.0, 30.0]], dtype=torch.float64)
    ion = coulomb_energy(torch.zeros(1, 3), cell, True, 2 * torch.ones(1), 0.1)
    alone = coulomb_energy(torch.zeros(1, 3), None, False, 2 * torch.ones(1), 0.1)
    assert (ion + makov_payne(cell, 2.0)).item() == pytest.approx(alone.item(), abs=1e-3)
    assert makov_payne(10 * CUBE, 1.0, 2.0).item() == pytest.approx(2.8372974794806 * COULOMB / 40, rel=1e-9)
    tensor = torch.diag(torch.tensor([2.0, 2.0, 2.0]))
    assert makov_payne(cell, 1.0, tensor).item() == pytest.approx(makov_payne(cell, 1.0, 2.0).item(), rel=1e-9)
    with pytest.raises(ValueError, match="must be positive"):
        makov_payne(cell, 1.0, -1.0)
