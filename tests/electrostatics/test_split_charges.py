"""Split charges: variational, conserving, and an insulator."""

import math

import pytest
import torch
from charged_cells import derivatives, differences, random_cell, strained
from test_terms import N_FEATURES, STATISTICS, script

from mlip import keys
from mlip.electrostatics import SplitCharges, coulomb_matrix
from mlip.units import COULOMB


def split(**settings):
    torch.manual_seed(0)
    module = SplitCharges(STATISTICS, **settings).double()
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def graph(positions, cell, cutoff=4.0, n_images=2):
    """With all edges inside the cutoff, by brute force; differentiable in positions and cell."""
    n = len(positions)
    shifts = torch.cartesian_prod(*[torch.arange(-n_images, n_images + 1, dtype=torch.float64)] * 3)
    vector = positions[None, :, None] - positions[:, None, None] + shifts @ cell
    distance = vector.detach().norm(dim=3)
    i, j, s = ((distance < cutoff) & (distance > 1e-6)).nonzero(as_tuple=True)
    generator = torch.Generator().manual_seed(0)
    return {
        keys.POSITIONS: positions,
        keys.CELL: cell[None],
        keys.PBC: torch.ones(1, 3, dtype=torch.bool),
        keys.ATOMIC_NUMBERS: torch.tensor([3, 8, 17] * n)[:n],
        keys.BATCH: torch.zeros(n, dtype=torch.int64),
        keys.EDGE_INDEX: torch.stack([i, j]),
        keys.EDGE_VECTOR: vector[i, j, s],
        keys.NODE_SCALARS: torch.randn(n, N_FEATURES, generator=generator, dtype=torch.float64),
    }


def test_charges_are_those_of_the_flows_through_explicit_bonds():
    positions, cell, _, _ = random_cell(5)
    module, inputs = split(tolerance=1e-13).eval(), graph(positions, cell)
    energy = module(inputs).sum()
    species = module.lookup[inputs[keys.ATOMIC_NUMBERS]]
    i, j = inputs[keys.EDGE_INDEX]
    once = (i < j).nonzero()[:, 0]
    i, j, length = i[once], j[once], inputs[keys.EDGE_VECTOR][once].norm(dim=1)
    x = length / 4.0
    fade = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    half = module.bond_hardness(species)
    kappa = (half[i] + half[j]) / fade
    incidence = torch.zeros(5, len(once), dtype=torch.float64)
    incidence[i, torch.arange(len(once))] += 1.0
    incidence[j, torch.arange(len(once))] -= 1.0
    matrix = coulomb_matrix(positions, cell, True, module.width(species)) + torch.diag(module.hardness(species))
    chi, reference = inputs[keys.ELECTRONEGATIVITY], module.formal[species]
    flow = torch.linalg.solve(
        torch.diag(kappa) + incidence.T @ matrix @ incidence, -incidence.T @ (chi + matrix @ reference)
    )
    charges = reference + incidence @ flow
    lone = COULOMB * reference.square() / (math.sqrt(math.pi) * module.width(species))
    zero = chi.square() / module.hardness(species) - lone
    expected = chi @ charges + charges @ matrix @ charges / 2 + kappa @ flow.square() / 2 + zero.sum() / 2
    assert (inputs[keys.CHARGES] - charges).abs().max() < 1e-9
    assert energy.item() == pytest.approx(expected.item(), abs=1e-9)


def test_forces_and_stress_match_finite_differences_in_both_modes():
    positions, cell, _, _ = random_cell(4)
    module = split()

    def energy(r, h):
        return module(graph(r, h)).sum()

    slow = differences(lambda r, h: energy(r, h).detach(), positions, cell, 2e-3)
    for mode in (True, False):
        module.train(mode)
        for exact, expected in zip(derivatives(energy, positions, cell), slow, strict=True):
            assert (exact - expected).abs().max() < 1e-6


def test_force_training_has_the_right_gradient():
    positions, cell, _, _ = random_cell(3)
    module = split().train()

    def loss():
        r = positions.clone().requires_grad_(True)
        return torch.autograd.grad(module(graph(r, cell)).sum(), r, create_graph=True)[0].square().sum()

    weights = module.bond_hardness.table.weight
    exact = torch.autograd.grad(loss(), weights)[0]
    values = []
    for step in (1e-4, -1e-4):
        weights.data[1] += step
        values.append(loss().item())
        weights.data[1] -= step
    assert exact[1].item() == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-5)


def test_charge_is_kept_and_a_total_charge_is_spread():
    positions, cell, _, _ = random_cell(5)
    module, inputs = split().eval(), graph(positions, cell)
    module(inputs)
    formal = module.formal[module.lookup[inputs[keys.ATOMIC_NUMBERS]]].sum()
    assert inputs[keys.CHARGES].sum().item() == pytest.approx(formal.item(), abs=1e-10)
    inputs[keys.TOTAL_CHARGE] = torch.tensor([0.5])
    module(inputs)
    assert inputs[keys.CHARGES].sum().item() == pytest.approx(0.5, abs=1e-10)


def test_stiff_bonds_keep_formal_charges():
    positions, cell, _, _ = random_cell(5)
    module, inputs = split(bond_hardness=1e6).eval(), graph(positions, cell)
    module(inputs)
    formal = module.formal[module.lookup[inputs[keys.ATOMIC_NUMBERS]]]
    assert (inputs[keys.CHARGES] - formal).abs().max() < 1e-3


def test_potential_step_moves_bounded_charge_through_a_long_crystal():
    """Equilibrated charges screen a slow modulation of chi fully (a metal); split charges respond as k^2."""
    responses = []
    for n in (8, 16):
        cell = torch.diag(torch.tensor([2.0 * n, 2.0, 2.0], dtype=torch.float64))
        positions = torch.stack([2.0 * torch.arange(n), torch.zeros(n), torch.zeros(n)], 1).double()
        module, inputs = split().eval(), graph(positions, cell, n_images=2)
        inputs[keys.ATOMIC_NUMBERS] = torch.full((n,), 3)
        phase = torch.cos(2 * torch.pi * torch.arange(n) / n).double()
        inputs[keys.NODE_SCALARS] = torch.zeros(n, N_FEATURES, dtype=torch.float64)
        charges = []
        for sign in (1.0, -1.0):
            module.electronegativity.forward = lambda s, z, hardness, sign=sign, phase=phase: 0.1 * sign * phase
            module(inputs)
            charges.append(inputs[keys.CHARGES].detach())
        responses.append((charges[0] - charges[1]).norm().item() / phase.norm().item())
    assert responses[1] == pytest.approx(responses[0] / 4, rel=0.3)


def test_scripted_equals_eager():
    positions, cell, _, _ = random_cell(5)
    module = split()
    scripted = script(module)
    strain = torch.zeros(3, 3, dtype=torch.float64)
    for mode in (True, False):
        inputs = graph(*strained(positions, cell, strain))
        eager = module.train(mode)(dict(inputs))
        assert (eager - scripted.train(mode)(dict(inputs))).abs().max() < 1e-10


def test_a_field_and_charge_groups_are_refused_not_ignored():
    positions, cell, _, _ = random_cell(5)
    module = split().eval()
    quiet = graph(positions, cell) | {keys.FIELD: torch.zeros(1, 3, dtype=torch.float64)}
    assert torch.isfinite(module(quiet)).all()
    with pytest.raises(ValueError, match=r"no electric field, got 0\.1 V/Å"):
        module(graph(positions, cell) | {keys.FIELD: torch.tensor([[0.0, 0.1, 0.0]], dtype=torch.float64)})
    with pytest.raises(ValueError, match="no charge groups"):
        module(graph(positions, cell) | {keys.CHARGE_GROUP: torch.zeros(5, dtype=torch.int64)})
