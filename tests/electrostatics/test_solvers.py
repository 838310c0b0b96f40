"""Solvers on the mesh: the dense minimum, in steps that do not grow with the cell, and exact derivatives."""

import pytest
import torch
from ionic_crystals import equilibration, lithium_oxide

from mlip.electrostatics import coulomb_matrix, equilibrate
from mlip.electrostatics.functional import ChargeFunctional, ChargeState, energies
from mlip.electrostatics.operator import System, detached, gradient_carrier, mesh_operator
from mlip.electrostatics.preconditioner import diagonal_preconditioner, preconditioner
from mlip.electrostatics.solvers import _matrix_free_newton, minimise, minimise_with

BULK = torch.tensor([True, True, True])
SLAB = torch.tensor([True, True, False])


def operator(n_cells, pbc=BULK, tolerance=1e-5):
    positions, cell, charges, width = lithium_oxide(n_cells)
    return mesh_operator(System(positions, cell, pbc), width, tolerance, False, False), charges


def start(functional, charges):
    """Of a cold start; charges without a constraint stay."""
    return ChargeState(charges, torch.zeros_like(functional.dipole_bias), functional.target)


def solve(
    system: System,
    width: torch.Tensor,
    functional: ChargeFunctional,
    start: ChargeState,
    tolerance: float = 1e-7,
    slope: float = 1e-8,
) -> tuple[ChargeState, torch.Tensor]:
    """State and energies of inference through the mesh."""
    polar = functional.inverse_polarizability.shape[0] > 0
    operator = mesh_operator(system, width, tolerance, polar, False)
    constant = detached(operator)
    state = minimise(functional, constant, start, slope)
    carrier = gradient_carrier(operator, system.positions, state.charges, state.dipoles)
    return state, energies(functional, constant, state) + carrier


def solve_differentiable(system, width, functional, start, tolerance=1e-7, slope=1e-10):
    """State and energies of training through the mesh."""
    operator = mesh_operator(system, width, tolerance, len(functional.inverse_polarizability) > 0, True)
    state = _matrix_free_newton(functional, operator, start, slope)
    return state, energies(functional, operator, state)


def relax(functional, operator, start, tolerance=1e-8, kind=preconditioner):
    """State and steps with a preconditioner."""
    return minimise_with(kind(functional, operator), functional, operator, start, tolerance)


def dense(positions, cell, pbc, width, functional, group):
    polar = len(functional.inverse_polarizability) > 0
    return equilibrate(
        positions,
        cell,
        pbc,
        functional.electronegativity,
        functional.hardness,
        width,
        functional.target.sum(),
        group,
        functional.target,
        polarizability=1 / functional.inverse_polarizability if polar else None,
        dipole_bias=functional.dipole_bias if polar else None,
    )


@pytest.mark.parametrize("pbc", [BULK, SLAB], ids=["bulk", "slab"])
@pytest.mark.parametrize("polar", [False, True], ids=["charges", "charges and dipoles"])
@pytest.mark.parametrize("groups", [1, 3], ids=["total charge", "three groups"])
def test_charges_and_energy_are_those_of_the_dense_solution(pbc, polar, groups):
    positions, cell, charges, width = lithium_oxide(1)
    functional, group = equilibration(charges, groups, polar)
    state, energy = solve(System(positions, cell, pbc), width, functional, start(functional, charges), 1e-9, 1e-10)
    exact = dense(positions, cell, pbc, width, functional, group)
    assert (state.charges - exact.charges).abs().max() < 5e-9
    assert abs(float(energy.sum() - exact.energy)) < 1e-7
    assert (state.multipliers - exact.chemical_potential).abs().max() < 1e-7
    if polar:
        assert (state.dipoles - exact.dipoles).abs().max() < 5e-9


def test_dipoles_relax_around_charges_that_stay():
    positions, cell, charges, width = lithium_oxide(1)
    functional, _ = equilibration(charges, 1, True)
    functional = functional._replace(constraint=functional.constraint[:0], target=functional.target[:0])
    state, _ = solve(System(positions, cell, BULK), width, functional, start(functional, charges), 1e-9)
    n = len(charges)
    matrix = coulomb_matrix(positions, cell, BULK, width, dipoles=True)
    stiff = matrix[n:, n:] + torch.diag(functional.inverse_polarizability.repeat_interleave(3))
    exact = torch.linalg.solve(stiff, -functional.dipole_bias.flatten() - matrix[n:, :n] @ charges)
    torch.testing.assert_close(state.charges, charges)
    torch.testing.assert_close(state.dipoles.flatten(), exact, atol=1e-8, rtol=0)


def test_steps_do_not_grow_with_the_cell():
    steps = {preconditioner: [], diagonal_preconditioner: []}
    for n_cells in (3, 6):
        large, charges = operator(n_cells, tolerance=1e-4)
        functional, _ = equilibration(charges)
        for kind, counts in steps.items():
            counts.append(relax(functional, large, start(functional, charges), kind=kind)[1])
    metallic, diagonal = steps.values()
    assert metallic[1] < 1.25 * metallic[0]  # 15, 17; then 18, 19 at 6144 and 20736 atoms
    assert diagonal[1] > 1.7 * diagonal[0]


def test_a_slab_needs_fewer_steps_than_with_the_diagonal_alone():
    positions, cell, charges, width = lithium_oxide(5)
    kept = positions[:, 2] < 9.0
    positions, charges, width = positions[kept], charges[kept], width[kept]
    large = mesh_operator(System(positions, cell, SLAB), width, 1e-4, False, False)
    functional, _ = equilibration(charges)
    good, steps = relax(functional, large, start(functional, charges))
    plain, more = relax(functional, large, start(functional, charges), kind=diagonal_preconditioner)
    assert steps < 0.7 * more
    torch.testing.assert_close(good.charges, plain.charges, atol=1e-8, rtol=0)


def test_charges_of_the_last_step_save_work():
    large, charges = operator(2)
    functional, _ = equilibration(charges)
    state, steps = relax(functional, large, start(functional, charges))
    again, none = relax(functional, large, state, 1e-7)
    torch.testing.assert_close(again.charges, state.charges, atol=1e-8, rtol=0)
    assert none == 0 < steps


def test_error_of_forces_is_proportional_to_the_slope_left():
    positions, cell, charges, width = lithium_oxide(1)
    functional, _ = equilibration(charges)
    forces = []
    for slope in (1e-12, 1e-4, 1e-6):
        r = positions.clone().requires_grad_()
        energy = solve(System(r, cell, BULK), width, functional, start(functional, charges), 1e-5, slope)[1]
        forces.append(torch.autograd.grad(energy.sum(), r)[0])
    assert (forces[1] - forces[0]).abs().max() < 1e-3
    assert (forces[2] - forces[0]).abs().max() < 1e-5


@pytest.mark.parametrize("polar", [False, True], ids=["charges", "charges and dipoles"])
def test_training_on_forces_charges_and_potentials_has_the_dense_gradient(polar):
    positions, cell, charges, width = lithium_oxide(1)
    functional, group = equilibration(charges, 2, polar)
    leaves = [x.clone().requires_grad_() for x in (positions, cell, width, *functional[:4], functional.target)]
    r, box, s = leaves[:3]
    weight = torch.sin(torch.arange(3.0 * len(r), dtype=torch.float64)).view(-1, 3)

    def gradient(energy, state, potential):
        force = torch.autograd.grad(energy, r, create_graph=True)[0]
        loss = (weight * force).sum() + (state.charges**3).sum() + state.dipoles.square().sum() + potential.sum()
        return torch.autograd.grad(loss, leaves, allow_unused=True)

    ours = ChargeFunctional(*leaves[3:7], functional.constraint, leaves[7], functional.compliance)
    state, energy = solve_differentiable(System(r, box, BULK), s, ours, start(ours, charges), 1e-8)
    mine = gradient(energy.sum(), state, state.multipliers)
    exact = dense(r, box, BULK, s, ours, group)
    theirs = gradient(exact.energy, exact, exact.chemical_potential)
    for a, b in zip(mine, theirs, strict=True):
        if b is not None and b.numel() > 0:
            assert (a - b).abs().max() < 1e-5 * (1 + b.abs().max())


def test_matrix_free_training_passes_gradgradcheck():
    positions, cell, charges, _ = lithium_oxide(1)
    positions, charges = positions[4:10], charges[4:10]
    functional, _ = equilibration(charges)
    width = torch.full_like(charges, 1.2)

    def energy_and_charges(positions, chi):
        ours = functional._replace(electronegativity=chi)
        system = System(positions, cell, BULK)
        state, energy = solve_differentiable(system, width, ours, start(ours, charges), 1e-3, 1e-12)
        return energy.sum(), state.charges

    inputs = (positions.clone().requires_grad_(), functional.electronegativity.clone().requires_grad_())
    assert torch.autograd.gradcheck(energy_and_charges, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(energy_and_charges, inputs, fast_mode=True, atol=1e-4)


def test_scripted_solution_is_the_eager_one():
    positions, cell, charges, width = lithium_oxide(1)
    functional, _ = equilibration(charges, 2, True)
    scripted = torch.jit.script(solve)
    for pbc in (BULK, SLAB):
        results = []
        for solution in (scripted, solve):
            r = positions.clone().requires_grad_()
            state, energy = solution(System(r, cell, pbc), width, functional, start(functional, charges), 1e-5)
            results.append((state.charges, state.dipoles, energy, torch.autograd.grad(energy.sum(), r)[0]))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


def test_a_hardness_without_a_minimum_is_reported():
    large, charges = operator(1)
    functional, _ = equilibration(charges)
    with pytest.raises(RuntimeError, match="hardness"):
        relax(functional._replace(hardness=functional.hardness - 30), large, start(functional, charges))
