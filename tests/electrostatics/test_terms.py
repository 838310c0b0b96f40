"""The electrostatic terms of models against the public single-system functions, scripted, batched, strained."""

import functools
import warnings

import pytest
import torch
from ase.data import chemical_symbols
from charged_cells import random_cell, strained

from mlip import keys
from mlip.electrostatics import EquilibratedCharges, FormalCharges, coulomb_energy, equilibrate
from mlip.electrostatics.parameters import FORMAL_CHARGE
from mlip.units import COULOMB

N_FEATURES = 5
STATISTICS = {"elements": [3, 8, 17], "n_features": N_FEATURES}
TERMS = {
    "formal_charges": lambda **k: FormalCharges(STATISTICS, **k),
    "formal_dipoles": lambda **k: FormalCharges(STATISTICS, dipoles=True, **k),
    "qeq": lambda **k: EquilibratedCharges(STATISTICS, **k),
    "qeq_dipoles": lambda **k: EquilibratedCharges(STATISTICS, dipoles=True, **k),
}
BOUNDARIES = {"bulk": (True, True, True), "slab": (True, True, False), "isolated": (False, False, False)}


def term(name, **settings):
    """A term with random weights (a fresh one has the same electronegativity in every environment)."""
    torch.manual_seed(0)
    module = TERMS[name](**settings).double()
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def graph(n=6, seed=0, pbc=(True, True, True), **more):
    positions, cell, _, _ = random_cell(n, seed)
    generator = torch.Generator().manual_seed(seed)
    return {
        keys.POSITIONS: positions,
        keys.CELL: cell[None],
        keys.PBC: torch.tensor([pbc]),
        keys.ATOMIC_NUMBERS: torch.tensor([3, 8, 17] * n)[:n],
        keys.BATCH: torch.zeros(n, dtype=torch.int64),
        keys.NODE_SCALARS: torch.randn(n, N_FEATURES, generator=generator, dtype=torch.float64),
        keys.NODE_VECTORS: torch.randn(n, 3, N_FEATURES, generator=generator, dtype=torch.float64),
        **more,
    }


def evaluate(module, inputs):
    """Energies, gradient over positions and over strain, and the graph with results."""
    inputs = dict(inputs)
    positions = inputs[keys.POSITIONS].clone().requires_grad_(True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    inputs[keys.POSITIONS], cell = strained(positions, inputs[keys.CELL][0], strain)
    inputs[keys.CELL] = cell[None]
    energies = module(inputs)
    gradients = torch.autograd.grad(energies.sum(), (positions, strain), create_graph=module.training)
    return [energies, *gradients], inputs


def script(module):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        return torch.jit.script(module)


@functools.cache
def scripted_term(name):
    """Compiling takes longer than all the rest."""
    return script(term(name))


def reference(name, module, inputs, positions, cell):
    """Energy by the exact public functions, from the same parameters."""
    species = module.lookup[inputs[keys.ATOMIC_NUMBERS]]
    settings = {}
    if module.dipoles:
        bias, inverse_polarizability = module.dipole_head(inputs[keys.NODE_VECTORS], species)
        settings = {"polarizability": 1 / inverse_polarizability, "dipole_bias": bias}
    pbc = inputs[keys.PBC][0]
    if name.startswith("qeq"):
        hardness, width = module.hardness(species), module.width(species)
        chi = module.electronegativity(inputs[keys.NODE_SCALARS], species, hardness)
        total = inputs.get(keys.TOTAL_CHARGE, [0.0])[0]
        formal = module.electronegativity.formal[species]
        zero = chi.square() / hardness - COULOMB * formal.square() / (width * torch.pi**0.5)
        return equilibrate(positions, cell, pbc, chi, hardness, width, total, **settings).energy + 0.5 * zero.sum()
    charges = module.formal[species]
    itself = 0.5 * COULOMB * charges.square().sum() / (module.width * torch.pi**0.5)
    if not module.dipoles:
        return coulomb_energy(positions, cell, pbc, charges, module.width) - itself
    group = torch.arange(len(charges))  # charges that cannot move
    everything = equilibrate(
        positions, cell, pbc, 0.0, 1.0, module.width, charges.sum(), group, charges, **settings
    )  # fmt: skip
    return everything.energy - 0.5 * charges.square().sum() - itself


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_energy_forces_and_stress_are_those_of_the_exact_functions_in_both_modes(name, boundary):
    inputs = graph(pbc=BOUNDARIES[boundary], total_charge=torch.tensor([-1.0], dtype=torch.float64))
    module = term(name, tolerance=1e-13)
    positions = inputs[keys.POSITIONS].clone().requires_grad_(True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    energy = reference(name, module, inputs, *strained(positions, inputs[keys.CELL][0], strain))
    exact = [energy, *torch.autograd.grad(energy, (positions, strain))]
    for mode in (True, False):
        results, _ = evaluate(module.train(mode), inputs)
        assert results[0].sum().item() == pytest.approx(energy.item(), abs=1e-9)
        for a, b in zip(results[1:], exact[1:], strict=True):
            assert (a - b).abs().max() < 2e-8


@pytest.mark.parametrize("name", TERMS)
def test_training_on_forces_has_the_gradient_of_the_exact_solution(name):
    """The exact solution is differentiated through torch.linalg.solve; the term takes Newton steps."""
    inputs, module = graph(5), term(name, tolerance=1e-13).train()
    positions = inputs[keys.POSITIONS].clone().requires_grad_(True)
    forces = torch.autograd.grad(
        reference(name, module, inputs, positions, inputs[keys.CELL][0]), positions, create_graph=True
    )[0]
    used = list(module.parameters())
    exact = torch.autograd.grad(forces.square().sum(), used, allow_unused=True, materialize_grads=True) if used else []
    results, _ = evaluate(module, inputs)
    ours = (
        torch.autograd.grad(results[1].square().sum(), used, allow_unused=True, materialize_grads=True) if used else []
    )
    for a, b in zip(exact, ours, strict=True):
        assert (a - b).abs().max() < 1e-7 * (1 + a.abs().max())


@pytest.mark.parametrize("name", ["qeq", "qeq_dipoles", "formal_dipoles"])
def test_charges_and_dipoles_have_exact_second_derivatives_in_training(name):
    """What a loss on Born charges needs."""
    inputs, module = graph(4), term(name, tolerance=1e-13).train()
    result = keys.CHARGES if name == "qeq" else keys.DIPOLES

    def outcome(positions, cell, scalars, vectors):
        changed = {**inputs, keys.POSITIONS: positions, keys.CELL: cell[None]}
        changed |= {keys.NODE_SCALARS: scalars, keys.NODE_VECTORS: vectors}
        module(changed)
        return changed[result]

    variables = [inputs[keys.POSITIONS], inputs[keys.CELL][0], inputs[keys.NODE_SCALARS], inputs[keys.NODE_VECTORS]]
    variables = [x.clone().requires_grad_(True) for x in variables]
    assert torch.autograd.gradcheck(outcome, variables, atol=1e-6)
    assert torch.autograd.gradgradcheck(outcome, variables, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_scripted_equals_eager(name, boundary):
    inputs, module = graph(pbc=BOUNDARIES[boundary]), term(name)
    scripted = scripted_term(name)
    for mode in (True, False):
        for a, b in zip(
            evaluate(module.train(mode), inputs)[0], evaluate(scripted.train(mode), inputs)[0], strict=True
        ):
            assert (a - b).abs().max() < 1e-10


@pytest.mark.parametrize("name", TERMS)
def test_batch_of_bulk_slab_and_molecule_equals_one_by_one(name):
    singles = [graph(n, n, pbc) for n, pbc in zip((4, 6, 3), BOUNDARIES.values(), strict=True)]
    batch = {key: torch.cat([g[key] for g in singles]) for key in singles[0]}
    batch[keys.BATCH] = torch.repeat_interleave(torch.arange(3), torch.tensor([4, 6, 3]))
    batch[keys.TOTAL_CHARGE] = torch.tensor([1.0, 0.0, -1.0])
    module = term(name).eval()
    energies = module(batch)
    for s, single in enumerate(singles):
        single[keys.TOTAL_CHARGE] = batch[keys.TOTAL_CHARGE][s : s + 1]
        alone = module(single)
        inside = batch[keys.BATCH] == s
        assert (energies[inside] - alone).abs().max() < 1e-10
        assert (batch[keys.CHARGES][inside] - single[keys.CHARGES]).abs().max() < 1e-10
        if name.startswith("qeq"):
            assert single[keys.CHARGES].sum().item() == pytest.approx(batch[keys.TOTAL_CHARGE][s].item(), abs=1e-10)


@pytest.mark.parametrize("name", TERMS)
def test_lone_ion_of_formal_charge_has_its_reference_energy_before_training(name):
    inputs = graph(1, pbc=(False, False, False))
    inputs[keys.NODE_VECTORS] *= 0  # a lone atom points nowhere
    fresh = TERMS[name]().double().eval()
    inputs[keys.TOTAL_CHARGE] = torch.tensor([float(FORMAL_CHARGE[chemical_symbols[int(inputs[keys.ATOMIC_NUMBERS])]])])
    assert fresh(inputs).abs().max() < 1e-6
    assert inputs[keys.CHARGES].item() == pytest.approx(inputs[keys.TOTAL_CHARGE].item())


def test_groups_keep_their_charge_in_the_term_and_wrong_ones_are_refused():
    module = term("qeq").eval()
    inputs = graph(6, charge_group=torch.tensor([0, 0, 2, 2, 2, 1]), group_charge=torch.tensor([1.0, 0.5, -1.5]))
    module(inputs)
    charges = inputs[keys.CHARGES].detach()
    groups = torch.zeros(3).double().index_add(0, inputs[keys.CHARGE_GROUP], charges)
    assert (groups - inputs[keys.GROUP_CHARGE]).abs().max() < 1e-10
    inputs[keys.CHARGE_GROUP] = torch.tensor([0, 0, 2, 2, 3, 1])
    with pytest.raises(ValueError, match=r"got 0\.\.3"):
        module(inputs)
    inputs[keys.CHARGE_GROUP] = torch.tensor([0, 0, 1, 1, 1, 1])
    with pytest.raises(ValueError, match="no atom"):
        module(inputs)


@pytest.mark.parametrize("name", ["qeq", pytest.param("formal_dipoles", marks=pytest.mark.slow)])
def test_energy_and_stress_do_not_jump_in_2000_small_strain_steps(name):
    """Waves come and go while the cell grows by 4 %; what is left after a smooth curve is a jump."""
    inputs, module = graph(6), term(name).eval()
    energies, pressures = [], []
    for step in range(2000):
        changed = dict(inputs)
        changed[keys.POSITIONS], changed[keys.CELL] = (
            x * (1 + 2e-5 * step) for x in (inputs[keys.POSITIONS], inputs[keys.CELL])
        )
        results, _ = evaluate(module, changed)
        energies.append(results[0].sum().item() / 6)
        pressures.append(results[2].trace().item() / 6)
    for series, limit in ((energies, 1e-11), (pressures, 1e-9)):
        series = torch.tensor(series, dtype=torch.float64)
        jumps = (series[3:] - 3 * series[2:-1] + 3 * series[1:-2] - series[:-3]).abs().max().item()
        print(f"largest jump per atom in 2000 strain steps ({name}): {jumps:.1e} eV")
        assert jumps < limit


@pytest.mark.parametrize("name", TERMS)
def test_default_tolerance_costs_less_than_a_training_error(name):
    inputs = graph(10, 3)
    rough, _ = evaluate(term(name).eval(), inputs)
    fine, _ = evaluate(term(name, tolerance=1e-13).eval(), inputs)
    assert (rough[1] - fine[1]).abs().max() < 1e-4  # eV/Å


def test_a_field_pulls_formal_ions_and_polarises_a_slab_but_not_flowing_charge_in_bulk():
    field = torch.tensor([[0.02, 0.0, -0.01]], dtype=torch.float64)
    pull = (
        evaluate(term("formal_charges").eval(), graph(field=field))[0][1]
        - evaluate(term("formal_charges").eval(), graph())[0][1]
    )
    charges = term("formal_charges").formal[torch.tensor([0, 1, 2, 0, 1, 2])]
    assert (pull + charges[:, None] * field).abs().max() < 1e-12
    with pytest.raises(ValueError, match=r"F = Z\* E"):
        term("qeq").eval()(graph(field=field))
    upright = torch.linalg.cross(*graph()[keys.CELL][0, :2])[None] * 1e-3
    charged = graph(pbc=(True, True, False), field=upright)
    neutral = graph(pbc=(True, True, False))
    module = term("qeq").eval()
    module(charged), module(neutral)
    moment = (charged[keys.CHARGES] - neutral[keys.CHARGES]) @ neutral[keys.POSITIONS] @ upright[0]
    assert moment.item() > 0


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
def test_the_stress_of_a_field_prefers_no_image_and_is_that_of_open_directions(pbc):
    """A slab thickens in a field along its normal; the bulk, at fixed voltage across its cell, has no such stress."""
    normal = torch.linalg.cross(*graph()[keys.CELL][0, :2])
    normal = normal / normal.norm() * 0.02
    module, inputs = term("formal_charges").eval(), graph(pbc=pbc)
    charges = module.formal[torch.tensor([0, 1, 2, 0, 1, 2])]
    moved = {**inputs, keys.POSITIONS: inputs[keys.POSITIONS].clone()}
    moved[keys.POSITIONS][1] += sum(side for side, periodic in zip(inputs[keys.CELL][0], pbc, strict=True) if periodic)
    free = evaluate(module, inputs)[0][2]
    for one in (inputs, moved):
        virial = evaluate(module, {**one, keys.FIELD: normal[None]})[0][2] - free
        moment = charges @ one[keys.POSITIONS]
        expected = torch.zeros(3, 3) if all(pbc) else -torch.outer(moment, normal)
        if pbc == (True, True, False):  # of the moment, what stands upright
            expected = -torch.outer(moment @ normal / normal.square().sum() * normal, normal)
        expected = 0.5 * (expected + expected.T)
        assert ((virial + virial.T) / 2 - expected).abs().max() < 1e-10


BAD = [
    (FormalCharges, {"width": 0.0}, "width must be positive"),
    (EquilibratedCharges, {"hardness": 0.5}, "must start above it"),
    (EquilibratedCharges, {"width": 0.5}, "must start above it"),
]


@pytest.mark.parametrize("kind, change, message", BAD)
def test_settings_without_a_physical_meaning_are_refused(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(STATISTICS, **change)
    if kind is EquilibratedCharges:
        with pytest.raises(ValueError, match="Li, O, Cl are all 0: they would have no energy"):
            kind(STATISTICS, formal_charges={"Li": 0, "O": 0, "Cl": 0})
        kind(STATISTICS, formal_charges={"Li": 0, "O": 0, "Cl": 0}, dipoles=True)  # dipoles move them
    with pytest.raises(ValueError, match=r"no formal charge for \['Xe'\]"):
        FormalCharges({"elements": [3, 54]})


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("boundary", ["bulk", "slab"])
@pytest.mark.filterwarnings("ignore:Sparse (CSR|invariant)")
def test_large_systems_go_through_the_mesh_and_have_the_same_energy_forces_and_charges(name, boundary):
    inputs = graph(10, 3, BOUNDARIES[boundary], total_charge=torch.tensor([1.0], dtype=torch.float64))
    small, other = evaluate(term(name, tolerance=1e-7).eval(), inputs)
    large, same = evaluate(term(name, tolerance=1e-7, mesh_above=0).eval(), inputs)
    assert large[0].sum().item() == pytest.approx(small[0].sum().item(), abs=1e-5)
    for a, b in zip(large[1:], small[1:], strict=True):
        assert (a - b).abs().max() < 2e-5
    assert (same[keys.CHARGES] - other[keys.CHARGES]).abs().max() < 1e-6


def test_features_that_are_no_numbers_are_heard():
    inputs = graph(6)
    inputs[keys.NODE_SCALARS] = torch.full_like(inputs[keys.NODE_SCALARS], torch.nan)
    with pytest.raises(RuntimeError, match="slope nan V left"):
        term("qeq").eval()(inputs)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("width", [1.1, 1.35, 3.0])
def test_a_primitive_cell_that_leaves_no_wave_is_answered_and_its_forces_are_derivatives(name, width):
    """The longest wave of a small cell may lie beyond the cutoff of wide Gaussians: LiH, LiF."""
    module = term(name, width=width).train()
    cell = 2.04 * (torch.ones(3, 3, dtype=torch.float64) - torch.eye(3, dtype=torch.float64))
    inputs = graph(2)
    inputs |= {keys.CELL: cell[None], keys.POSITIONS: torch.tensor([[0.0, 0.1, 0.0], [2.0, 2.1, 1.95]]).double()}
    inputs[keys.ATOMIC_NUMBERS] = torch.tensor([3, 17])
    (_, forces, strain), results = evaluate(module, inputs)
    step, direction = 1e-4, torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    energies = []
    for sign in (1, -1):
        moved = {**inputs, keys.POSITIONS: inputs[keys.POSITIONS] + sign * step * direction}
        energies.append(float(evaluate(module, moved)[0][0].sum().detach()))
    assert (energies[0] - energies[1]) / (2 * step) == pytest.approx(
        float((forces.detach() * direction).sum()), abs=1e-7
    )
    assert torch.isfinite(strain).all() and abs(float(results[keys.CHARGES].sum().detach())) < 1e-10
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    loss = forces.square().sum() + strain.square().sum()
    for gradient in torch.autograd.grad(loss, weights, allow_unused=True) if weights else ():
        assert gradient is None or torch.isfinite(gradient).all()
