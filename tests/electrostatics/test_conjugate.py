"""Charges of large systems: the dense minimum, in steps that do not grow with the cell, and trained through exactly."""

import pytest
import torch
from ionic_crystals import equilibration, lithium_oxide

from mlip.electrostatics import coulomb_matrix, equilibrate
from mlip.electrostatics.conjugate import relax_large, solve_large
from mlip.electrostatics.implicit import solve_large_differentiable
from mlip.electrostatics.large import make_large, split_interaction
from mlip.electrostatics.problem import Problem, Relaxed

BULK = torch.tensor([True, True, True])
SLAB = torch.tensor([True, True, False])


def operator(n_cells, pbc=BULK, tolerance=1e-5):
    positions, cell, charges, width = lithium_oxide(n_cells)
    split = split_interaction(positions, cell, pbc, width, tolerance)
    return make_large(positions, split, width, False), charges


def start(problem, charges):
    """Of a cold start: given charges where they stay."""
    return Relaxed(charges, torch.zeros_like(problem.dipole_source), problem.target)


def dense(positions, cell, pbc, width, problem, group):
    polar = len(problem.stiffness) > 0
    return equilibrate(
        positions,
        cell,
        pbc,
        problem.electronegativity,
        problem.hardness,
        width,
        problem.target.sum(),
        group,
        problem.target,
        polarizability=1 / problem.stiffness if polar else None,
        dipole_source=problem.dipole_source if polar else None,
    )


@pytest.mark.parametrize("pbc", [BULK, SLAB], ids=["bulk", "slab"])
@pytest.mark.parametrize("polar", [False, True], ids=["charges", "charges and dipoles"])
@pytest.mark.parametrize("groups", [1, 3], ids=["total charge", "three groups"])
def test_charges_and_energy_are_those_of_the_dense_solution(pbc, polar, groups):
    positions, cell, charges, width = lithium_oxide(1)
    problem, group = equilibration(charges, groups, polar)
    state, energies, _ = solve_large(positions, cell, pbc, width, problem, start(problem, charges), tolerance=1e-9, slope=1e-10)
    exact = dense(positions, cell, pbc, width, problem, group)
    assert (state.charges - exact.charges).abs().max() < 5e-9
    assert abs(float(energies.sum() - exact.energy)) < 1e-7
    assert (state.multipliers - exact.chemical_potential).abs().max() < 1e-7
    if polar:
        assert (state.dipoles - exact.dipoles).abs().max() < 5e-9


def test_dipoles_relax_around_charges_that_stay():
    positions, cell, charges, width = lithium_oxide(1)
    problem, _ = equilibration(charges, 1, True)
    problem = problem._replace(constraint=problem.constraint[:0], target=problem.target[:0])
    state, _, _ = solve_large(positions, cell, BULK, width, problem, start(problem, charges), tolerance=1e-9)
    n = len(charges)
    matrix = coulomb_matrix(positions, cell, BULK, width, dipoles=True)
    stiff = matrix[n:, n:] + torch.diag(problem.stiffness.repeat_interleave(3))
    exact = torch.linalg.solve(stiff, -problem.dipole_source.flatten() - matrix[n:, :n] @ charges)
    torch.testing.assert_close(state.charges, charges)
    torch.testing.assert_close(state.dipoles.flatten(), exact, atol=1e-8, rtol=0)


def test_steps_do_not_grow_with_the_cell():
    steps = {True: [], False: []}
    for n_cells in (3, 6):
        large, charges = operator(n_cells, tolerance=1e-4)
        problem, _ = equilibration(charges)
        for screened, found in steps.items():
            found.append(relax_large(large, problem, start(problem, charges), screened=screened)[1])
    assert steps[True][1] < 1.25 * steps[True][0]  # 15, 17; then 18, 19 at 6144 and 20736 atoms
    assert steps[False][1] > 1.7 * steps[False][0]


def test_a_slab_needs_fewer_steps_than_with_the_diagonal_alone():
    positions, cell, charges, width = lithium_oxide(5)
    kept = positions[:, 2] < 9.0
    positions, charges, width = positions[kept], charges[kept], width[kept]
    large = make_large(positions, split_interaction(positions, cell, SLAB, width, 1e-4), width, False)
    problem, _ = equilibration(charges)
    good, steps = relax_large(large, problem, start(problem, charges))
    plain, more = relax_large(large, problem, start(problem, charges), screened=False)
    assert steps < 0.7 * more
    torch.testing.assert_close(good.charges, plain.charges, atol=1e-8, rtol=0)


def test_charges_of_the_last_step_save_work():
    large, charges = operator(2)
    problem, _ = equilibration(charges)
    state, steps = relax_large(large, problem, start(problem, charges))
    again, none = relax_large(large, problem, state, 1e-7)
    torch.testing.assert_close(again.charges, state.charges, atol=1e-8, rtol=0)
    assert none == 0 < steps


def test_error_of_forces_is_proportional_to_the_slope_left():
    positions, cell, charges, width = lithium_oxide(1)
    problem, _ = equilibration(charges)
    forces = []
    for slope in (1e-12, 1e-4, 1e-6):
        r = positions.clone().requires_grad_()
        energies = solve_large(r, cell, BULK, width, problem, start(problem, charges), 1e-5, slope=slope)[1]
        forces.append(torch.autograd.grad(energies.sum(), r)[0])
    assert (forces[1] - forces[0]).abs().max() < 1e-3
    assert (forces[2] - forces[0]).abs().max() < 1e-5


@pytest.mark.parametrize("polar", [False, True], ids=["charges", "charges and dipoles"])
def test_training_on_forces_charges_and_potentials_has_the_dense_gradient(polar):
    positions, cell, charges, width = lithium_oxide(1)
    problem, group = equilibration(charges, 2, polar)
    leaves = [x.clone().requires_grad_() for x in (positions, cell, width, *problem[:4], problem.target)]
    r, box, s = leaves[:3]
    weight = torch.sin(torch.arange(3.0 * len(r), dtype=torch.float64)).view(-1, 3)

    def gradient(energy, state, potential):
        force = torch.autograd.grad(energy, r, create_graph=True)[0]
        loss = (weight * force).sum() + (state.charges**3).sum() + state.dipoles.square().sum() + potential.sum()
        return torch.autograd.grad(loss, leaves, allow_unused=True)

    ours = Problem(*leaves[3:7], problem.constraint, leaves[7])
    state, energies = solve_large_differentiable(r, box, BULK, s, ours, start(ours, charges), 1e-8)
    mine = gradient(energies.sum(), state, state.multipliers)
    exact = dense(r, box, BULK, s, ours, group)
    theirs = gradient(exact.energy, exact, exact.chemical_potential)
    for a, b in zip(mine, theirs, strict=True):
        if b is not None and b.numel() > 0:
            assert (a - b).abs().max() < 1e-5 * (1 + b.abs().max())


def test_matrix_free_training_passes_gradgradcheck():
    positions, cell, charges, _ = lithium_oxide(1)
    positions, charges = positions[4:10], charges[4:10]
    problem, _ = equilibration(charges)
    width = torch.full_like(charges, 1.2)

    def energy_and_charges(positions, chi):
        ours = problem._replace(electronegativity=chi)
        state, energies = solve_large_differentiable(positions, cell, BULK, width, ours, start(ours, charges), 1e-3, 1e-12)
        return energies.sum(), state.charges

    inputs = (positions.clone().requires_grad_(), problem.electronegativity.clone().requires_grad_())
    assert torch.autograd.gradcheck(energy_and_charges, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(energy_and_charges, inputs, fast_mode=True, atol=1e-4)


def test_scripted_solution_is_the_eager_one():
    positions, cell, charges, width = lithium_oxide(1)
    problem, _ = equilibration(charges, 2, True)
    scripted = torch.jit.script(solve_large)
    for pbc in (BULK, SLAB):
        found = []
        for solve in (scripted, solve_large):
            r = positions.clone().requires_grad_()
            state, energies, _ = solve(r, cell, pbc, width, problem, start(problem, charges), 1e-5)
            found.append((state.charges, state.dipoles, energies, torch.autograd.grad(energies.sum(), r)[0]))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


def test_a_hardness_without_a_minimum_is_reported():
    large, charges = operator(1)
    problem, _ = equilibration(charges)
    with pytest.raises(RuntimeError, match="hardness"):
        relax_large(large, problem._replace(hardness=problem.hardness - 30), start(problem, charges))
