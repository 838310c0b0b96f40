"""Bond charges: exact totals, an insulator's response, forces with the charges' own derivatives, no image preferred."""

import pytest
import torch
from charged_cells import derivatives, differences, random_cell, strained
from test_split_charges import graph
from test_terms import N_FEATURES, STATISTICS, script

from mlip import keys
from mlip.electrostatics import BondCharges, coulomb_matrix
from mlip.electrostatics.kernels import cutoff_error, width_of_cutoff
from mlip.electrostatics.response import born_charges
from mlip.nn.radial import polynomial_cutoff
from mlip.units import COULOMB

CUTOFF = 4.0


def bonds(scale=0.9, **settings):
    """A term with random weights; charges differ from the formal ones by some tenths of e."""
    torch.manual_seed(0)
    module = BondCharges({**STATISTICS, "cutoff": CUTOFF}, **settings).double()
    for parameter in module.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return module


def limited(positions, cell, **more):
    """The graph of `test_split_charges` with what the data limits add, for atoms 1.2 Å apart and more."""
    inputs = graph(positions, cell, CUTOFF) | more
    distance = inputs[keys.EDGE_VECTOR].norm(dim=1)
    return inputs | {keys.EDGE_DISTANCE: distance, keys.EDGE_ENVELOPE: polynomial_cutoff(distance, CUTOFF)}


def test_energy_is_that_of_the_coulomb_matrix_in_both_modes():
    positions, cell, _, _ = random_cell(5)
    module, inputs = bonds(tolerance=1e-13), limited(positions, cell)
    for mode in (True, False):
        energy = module.train(mode)(inputs).sum()
        charges = inputs[keys.CHARGES]
        matrix = coulomb_matrix(positions, cell, True, module.width)
        itself = COULOMB / (module.width * torch.pi**0.5) * charges.square().sum()
        expected = 0.5 * (charges @ matrix @ charges - itself) / module.dielectric()
        assert energy.item() == pytest.approx(expected.item(), abs=1e-9)
    assert (charges - module.formal[[0, 1, 2, 0, 1]]).abs().max() > 0.1


@pytest.mark.parametrize("dielectric", [1.0, 4.0])
def test_forces_and_stress_match_finite_differences_in_both_modes(dielectric):
    """With the derivatives of the charges, which a solution of an equation of motion for charges would not need."""
    positions, cell, _, _ = random_cell(4)
    module = bonds(dielectric=dielectric)

    def energy(r, h):
        return module(limited(r, h)).sum()

    slow = differences(lambda r, h: energy(r, h).detach(), positions, cell, 1e-3)
    for mode in (True, False):
        module.train(mode)
        for exact, expected in zip(derivatives(energy, positions, cell), slow, strict=True):
            assert (exact - expected).abs().max() < 2e-6


def test_force_training_has_the_right_gradient_and_starts_off_the_saddle():
    positions, cell, _, _ = random_cell(3)
    for module in (bonds(learn_formal_charges=True), BondCharges({**STATISTICS, "cutoff": CUTOFF}).double()):
        module.train()

        def loss(module=module):
            r = positions.clone().requires_grad_(True)
            return torch.autograd.grad(module(limited(r, cell)).sum(), r, create_graph=True)[0].square().sum()

        for weights in (module.transfer.taker.weight, module.log_susceptibility):
            exact = torch.autograd.grad(loss(), weights)[0]
            assert exact.abs().max() > 1e-6
            values = []
            for step in (1e-4, -1e-4):
                weights.data[0] += step
                values.append(loss().item())
                weights.data[0] -= step
            assert exact[0].sum().item() == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-5, abs=1e-8)


def test_training_starts_from_formal_charges():
    positions, cell, _, _ = random_cell(5)
    module, inputs = BondCharges({**STATISTICS, "cutoff": CUTOFF}).double(), limited(positions, cell)
    module(inputs)
    assert torch.equal(inputs[keys.CHARGES], module.formal[[0, 1, 2, 0, 1]])


def test_a_total_charge_is_exact_and_groups_keep_theirs():
    positions, cell, _, _ = random_cell(6)
    module = bonds().eval()
    inputs = limited(positions, cell, total_charge=torch.tensor([-1.0]))
    module(inputs)
    assert inputs[keys.CHARGES].sum().item() == pytest.approx(-1.0, abs=1e-12)
    group, target = torch.tensor([0, 0, 2, 2, 2, 1]), torch.tensor([1.0, 0.5, -1.5], dtype=torch.float64)
    inputs = limited(positions, cell, charge_group=group, group_charge=target)
    module(inputs)
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, group, inputs[keys.CHARGES].detach())
    assert (sums - target).abs().max() < 1e-12
    with pytest.raises(ValueError, match=r"got 0\.\.2"):
        module(limited(positions, cell, charge_group=group, group_charge=target[:2]))


def test_a_disturbance_moves_no_charge_beyond_the_bonds_of_its_atom():
    """Equilibrated charges of a metal would answer everywhere."""
    cell = torch.diag(torch.tensor([24.0, 3.0, 3.0], dtype=torch.float64))
    positions = torch.stack([2.0 * torch.arange(12), torch.zeros(12), torch.zeros(12)], 1).double()
    module, charges = bonds().eval(), []
    for change in (0.0, 1.0):
        inputs = limited(positions, cell)
        inputs[keys.NODE_SCALARS][6] += change
        module(inputs)
        charges.append(inputs[keys.CHARGES].detach())
    moved = (charges[1] - charges[0]).abs()
    near = (positions[:, 0] - positions[6, 0]).abs() < CUTOFF
    assert moved[near].min() > 1e-4 and moved[~near].max() == 0


def test_born_charges_are_the_derivative_of_the_polarisation_of_a_cluster_and_see_no_image():
    positions, cell, _, _ = random_cell(5)
    module, features = bonds().train(), torch.randn(3, N_FEATURES, dtype=torch.float64)

    def evaluated(r):
        inputs = limited(r, 10 * cell)  # no image within the cutoff
        inputs[keys.NODE_SCALARS] = torch.tanh(r @ features)
        module(inputs)
        return inputs

    r = positions.clone().requires_grad_(True)
    inputs = evaluated(r)
    reference, dipoles = inputs[keys.REFERENCE_CHARGES].detach(), inputs[keys.BOND_DIPOLES]
    born = born_charges(r, cell, torch.ones(3, dtype=torch.bool), reference, dipoles, sum_rule=False)
    moment = inputs[keys.CHARGES] @ r
    exact = torch.stack([torch.autograd.grad(moment[a], r, retain_graph=True)[0] for a in range(3)], 1)
    assert (born - exact).abs().max() < 1e-10


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
def test_a_field_pulls_on_born_charges_and_prefers_no_image(pbc):
    """In a bulk the field is that inside; along open directions that of the vacuum, and eps_inf times smaller inside."""
    positions, cell, _, _ = random_cell(5)
    field = torch.tensor([[0.02, -0.01, 0.03]], dtype=torch.float64)
    module = bonds().train()
    flags = {keys.PBC: torch.tensor([pbc])}

    def forces(r, field):
        r = r.clone().requires_grad_(True)
        inputs = limited(r, cell, field=field, **flags)
        energy = module(inputs).sum()
        reference, dipoles = inputs[keys.REFERENCE_CHARGES].detach(), inputs[keys.BOND_DIPOLES]
        pull = -torch.autograd.grad(energy, r, retain_graph=True)[0]
        return pull, born_charges(r, cell, torch.tensor(pbc), reference, dipoles, sum_rule=False)

    pull, born = forces(positions, field)
    free, _ = forces(positions, 0 * field)
    lattice = cell[torch.tensor(pbc)]
    inside = field @ torch.linalg.pinv(lattice) @ lattice
    inside = inside + (field - inside) / module.dielectric().detach()
    assert (pull - free - torch.einsum("a,iab->ib", inside[0], born)).abs().max() < 1e-12


def test_the_stress_of_a_field_is_that_of_a_fixed_voltage():
    positions, cell, _, _ = random_cell(4)
    voltage = torch.tensor([[0.1, -0.05, 0.2]], dtype=torch.float64)
    module = bonds().eval()

    def energy(r, h):
        return module(limited(r, h, field=(voltage @ torch.linalg.inv(h).T).detach())).sum()

    exact = derivatives(energy, positions, cell)
    slow = differences(lambda r, h: energy(r, h).detach(), positions, cell, 1e-3)
    for a, b in zip(exact, slow, strict=True):
        assert (a - b).abs().max() < 2e-6


def test_many_atoms_go_through_the_mesh():
    positions, cell, _, _ = random_cell(8)
    small, large = (bonds(tolerance=1e-7, mesh_above=above).eval() for above in (100, 0))
    for a, b in zip(
        *(derivatives(lambda r, h, m=m: m(limited(r, h)).sum(), positions, cell) for m in (small, large)), strict=True
    ):
        assert (a - b).abs().max() < 2e-5


def test_scripted_equals_eager():
    positions, cell, _, _ = random_cell(5)
    module = bonds()
    scripted, strain = script(module), torch.zeros(3, 3, dtype=torch.float64)
    field = torch.tensor([[0.0, 0.1, 0.0]], dtype=torch.float64)
    for mode in (True, False):
        for more in ({}, {keys.FIELD: field}):
            inputs = limited(*strained(positions, cell, strain), **more)
            eager = module.train(mode)(dict(inputs))
            assert (eager - scripted.train(mode)(dict(inputs))).abs().max() < 1e-10


def test_the_width_leaves_the_stated_force_at_the_cutoff():
    width = width_of_cutoff(5.0, 0.01)
    r = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    left = COULOMB * torch.erfc(r / (2 * width)) / r  # of points, less that of Gaussians
    assert -torch.autograd.grad(left, r)[0].item() == pytest.approx(0.01, rel=1e-9)
    assert cutoff_error(5.0, 1.2) == pytest.approx(0.0195, abs=1e-4)
    with pytest.raises(ValueError, match="above 0 and below"):
        width_of_cutoff(5.0, 2.0)
    with pytest.raises(ValueError, match="at least 1"):
        bonds(dielectric=0.5)
    with pytest.raises(ValueError, match="all 0: they would have no energy and learn nothing"):
        bonds(formal_charges={"Li": 0, "O": 0, "Cl": 0})
