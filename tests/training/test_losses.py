"""Losses against numbers worked out by hand."""

import pytest
import torch

from mlip import keys
from mlip.training.losses import AtomLoss, EnergyLoss, Huber, Squared, StressLoss, WeightedSum


def graph():
    """Two structures: Li F and Li."""
    return {
        keys.ATOMIC_NUMBERS: torch.tensor([3, 9, 3]),
        keys.BATCH: torch.tensor([0, 0, 1]),
        keys.POSITIONS: torch.zeros(3, 3, dtype=torch.float64),
        keys.CELL: torch.eye(3, dtype=torch.float64).repeat(2, 1, 1),
        keys.WEIGHT: torch.ones(2, dtype=torch.float64),
        keys.REF_ENERGY: torch.tensor([-4.0, -1.0], dtype=torch.float64),
        keys.REF_FORCES: torch.zeros(3, 3, dtype=torch.float64),
        keys.REF_STRESS: torch.zeros(2, 3, 3, dtype=torch.float64),
    }


def results(energy=0.0, forces=0.0, stress=0.0):
    """Labels plus an error."""
    g = graph()
    values = {
        "energy": g[keys.REF_ENERGY] + energy, "forces": g[keys.REF_FORCES] + forces, "stress": g[keys.REF_STRESS] + stress,
    }  # fmt: skip
    return {name: value.requires_grad_(True) for name, value in values.items()}


FORCES = AtomLoss("forces", "ref_forces", Squared(0.1))
PARTS = [EnergyLoss(Squared(0.01)), FORCES, StressLoss(Huber(0.002))]


@pytest.mark.parametrize("loss", PARTS)
def test_loss_is_zero_at_the_label(loss):
    assert loss(results(), graph()) == 0


def test_squared_energy_loss_is_per_atom():
    # errors 0.04 eV: 0.02 eV/atom of two atoms, 0.04 of one; in units of 0.01: (2^2 + 4^2) / 2
    assert EnergyLoss(Squared(0.01))(results(energy=0.04), graph()).item() == pytest.approx(10.0)


def test_huber_is_quadratic_inside_its_scale_and_linear_outside():
    huber = Huber(0.1)
    values = huber(torch.tensor([0.05, -0.1, 0.3], dtype=torch.float64))
    assert values.tolist() == pytest.approx([0.125, 0.5, 2.5])


def test_force_loss_is_a_mean_over_components():
    error = torch.zeros(3, 3, dtype=torch.float64)
    error[0, 0] = 0.3
    assert FORCES(results(forces=error), graph()).item() == pytest.approx(9 / 9)


def test_stress_loss_is_a_mean_over_components():
    assert StressLoss(Huber(0.002))(results(stress=0.004), graph()).item() == pytest.approx(1.5)


def test_element_weights_multiply_the_residuals_of_that_element():
    weighted = AtomLoss("forces", "ref_forces", Squared(0.1), {"Li": 3.0})
    error = torch.zeros(3, 3, dtype=torch.float64)
    error[1, 0], error[2, 0] = 0.1, 0.1  # F once, Li thrice
    assert weighted(results(forces=error), graph()).item() == pytest.approx(4 / 9)
    with pytest.raises(ValueError, match="'Lx'"):
        AtomLoss("forces", "ref_forces", Squared(0.1), {"Lx": 3.0})


def test_structure_weight_multiplies_its_residuals():
    g = graph() | {keys.WEIGHT: torch.tensor([2.0, 0.0], dtype=torch.float64)}
    assert EnergyLoss(Squared(0.01))(results(energy=0.04), g).item() == pytest.approx(2 * 4 / 2)
    assert FORCES(results(forces=0.1), g).item() == pytest.approx(2 * 2 / 3)


def test_a_missing_label_changes_neither_value_nor_gradient():
    for name, loss, label in zip(
        ("energy", "forces", "stress"), PARTS, ("ref_energy", "ref_forces", "ref_stress"), strict=True
    ):
        g, one = graph(), {k: v[:1] for k, v in graph().items()}
        g[label][-1] = torch.nan  # the label of the second structure, or of its only atom
        for key in (keys.ATOMIC_NUMBERS, keys.BATCH, keys.POSITIONS, keys.REF_FORCES):
            one[key] = graph()[key][:2]
        full, part = results(0.03, 0.2, 0.001), {k: v.detach() for k, v in results(0.03, 0.2, 0.001).items()}
        part = {"energy": part["energy"][:1], "forces": part["forces"][:2], "stress": part["stress"][:1]}
        value = loss(full, g)
        assert value.item() == pytest.approx(loss(part, one).item(), rel=1e-14)
        (gradient,) = torch.autograd.grad(value, full[name])
        assert gradient.isfinite().all()
        assert (gradient[-1] == 0).all()
        assert (gradient[0] != 0).any()


def test_no_label_at_all_is_zero_with_zero_gradient():
    g = graph() | {keys.REF_ENERGY: torch.full((2,), torch.nan, dtype=torch.float64)}
    r = results(energy=0.1)
    value = PARTS[0](r, g)
    assert value == 0
    assert (torch.autograd.grad(value, r["energy"])[0] == 0).all()


def test_a_result_that_is_not_a_number_is_heard():
    r = results()
    r["energy"] = torch.full((2,), torch.nan, dtype=torch.float64)
    assert PARTS[0](r, graph()).isnan()


def test_a_loss_on_charges_needs_a_potential_with_charges():
    g = graph() | {keys.REF_CHARGES: torch.tensor([1.0, -1.0, torch.nan], dtype=torch.float64)}
    loss = AtomLoss("charges", "ref_charges", Squared(0.1))
    charges = torch.tensor([0.9, -1.0, 5.0], dtype=torch.float64)
    assert loss({"charges": charges}, g).item() == pytest.approx(0.5)
    with pytest.raises(KeyError, match="'charges'"):
        loss(results(), g)
    with pytest.raises(KeyError, match="'ref_charges'"):
        loss({"charges": charges}, graph())


def test_weights_change_at_the_second_stage():
    loss = WeightedSum({"energy": PARTS[0], "forces": FORCES}, {"energy": [0.5, 4.0], "forces": 1.0}, second_stage=0.75)
    r = results(energy=0.04, forces=0.1)
    first, parts = loss(r, graph(), 0.74)
    second, _ = loss(r, graph(), 0.75)
    assert first.item() == pytest.approx(0.5 * 10 + 1)
    assert second.item() == pytest.approx(4.0 * 10 + 1)
    assert {name: value.item() for name, value in parts.items()} == pytest.approx({"energy": 10.0, "forces": 1.0})


def test_a_part_with_weight_zero_is_not_computed():
    assert WeightedSum({"charges": None, "energy": PARTS[0]}, {"charges": 0, "energy": 1.0})(results(), graph())[0] == 0
    with pytest.raises(ValueError, match="stress"):
        WeightedSum({"stress": PARTS[2]}, {})
