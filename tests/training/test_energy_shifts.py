"""Atomic energies that follow a training: errors linear in composition and charge vanish, others stay."""

import pytest
import torch

from mlip import keys
from mlip.models.atomic_energy import AtomicEnergy
from mlip.nn.scatter import segment_sum
from mlip.training.energy_shifts import EVERY, EnergyShifts, with_followed

STATISTICS = {"elements": [3, 8], "levels": ["pbe", "scan"], "atomic_energies": [[-2.0, -5.0], [-3.0, -6.0]]}
COUNTS = [(64, 32, 0.0), (63, 32, -1.0), (64, 32, 1.0)]  # Li, O, total charge


def batch(rng, level=0):
    """Crystals, some with a vacancy or a hole, whose label is 1.5 eV for an O, -0.7 for a Li and 4 for a charge above."""
    numbers = torch.cat([torch.tensor([3] * li + [8] * o) for li, o, _ in COUNTS])
    owner = torch.cat([torch.full((li + o,), s) for s, (li, o, _) in enumerate(COUNTS)])
    charge = torch.tensor([q for _, _, q in COUNTS], dtype=torch.float64)
    graph = {keys.ATOMIC_NUMBERS: numbers, keys.BATCH: owner, keys.TOTAL_CHARGE: charge}
    graph[keys.POSITIONS] = torch.zeros(len(numbers), 3, dtype=torch.float64)
    graph[keys.LEVEL] = torch.full((len(COUNTS),), level)
    graph[keys.EDGE_INDEX] = torch.arange(len(numbers)).repeat(2, 1)  # every atom has a neighbour
    above = torch.tensor([-0.7 * li + 1.5 * o + 4.0 * q for li, o, q in COUNTS], dtype=torch.float64)
    term = AtomicEnergy(STATISTICS)
    start = segment_sum(term(graph), owner, len(COUNTS))
    graph[keys.REF_ENERGY] = start + above + 0.05 * torch.randn(3, generator=rng, dtype=torch.float64)
    return graph


def results_of(term, graph):
    return {keys.ENERGY: segment_sum(term(graph) + term.of_charge(graph), graph[keys.BATCH], len(COUNTS))}


def test_errors_linear_in_composition_and_charge_vanish_and_another_level_stays():
    rng = torch.Generator().manual_seed(0)
    trained, average = (AtomicEnergy({**STATISTICS, "charge_energies": [0.0, 0.0]}) for _ in range(2))
    shifts = EnergyShifts(trained, 0.99)
    for _ in range(4 * EVERY):
        graph = batch(rng)
        shifts.observe(trained, results_of(trained, graph), graph)
        shifts.follow([trained, average])
    left = results_of(average, graph)[keys.ENERGY] - graph[keys.REF_ENERGY]
    assert left.abs().max() < 0.2  # the noise; 1.5, 4 eV without
    found = with_followed(STATISTICS, average)
    assert found["charge_energies"][0] - (found["atomic_energies"][0][0] + 2.0) == pytest.approx(4.7, abs=0.1)
    assert found["atomic_energies"][1] == STATISTICS["atomic_energies"][1]


def test_lone_atoms_do_not_pull_the_energy_of_a_molecule():
    term = AtomicEnergy(STATISTICS)
    shifts = EnergyShifts(term, 0.99)
    graph = {  # Li, O, and Li2O, bound by 9 eV
        keys.ATOMIC_NUMBERS: torch.tensor([3, 8, 3, 3, 8]),
        keys.BATCH: torch.tensor([0, 1, 2, 2, 2]),
        keys.EDGE_INDEX: torch.tensor([[2, 3, 4, 4], [4, 4, 2, 3]]),
        keys.POSITIONS: torch.zeros(5, 3, dtype=torch.float64),
        keys.LEVEL: torch.zeros(3, dtype=torch.int64),
        keys.REF_ENERGY: torch.tensor([-2.0, -5.0, -18.0], dtype=torch.float64),
    }
    for _ in range(4 * EVERY):
        shifts.observe(term, {keys.ENERGY: segment_sum(term(graph), graph[keys.BATCH], 3)}, graph)
        shifts.follow([term])
    left = segment_sum(term(graph), graph[keys.BATCH], 3) - graph[keys.REF_ENERGY]
    assert left[2].abs() < 1e-3  # 5.8 of the 9 eV if lone atoms count


def test_a_second_move_finds_nothing_left_and_a_state_goes_on_alike():
    rng = torch.Generator().manual_seed(1)
    term, copy = AtomicEnergy(STATISTICS), AtomicEnergy(STATISTICS)
    shifts, other = EnergyShifts(term, 0.9), EnergyShifts(copy, 0.9)
    for _ in range(EVERY):
        graph = batch(rng)
        shifts.observe(term, results_of(term, graph), graph)
    other.load_state_dict(shifts.state_dict())
    shifts.follow([term])
    other.follow([copy])
    moved = term.table_neV - AtomicEnergy(STATISTICS).table_neV
    assert torch.equal(copy.table_neV, term.table_neV) and moved.abs().max() > 5e8
    shifts.follow([term])
    assert (term.table_neV - copy.table_neV).abs().max() < 0.1 * moved.abs().max()


def test_energies_without_a_label_and_potentials_of_another_kind_are_left_alone():
    term = AtomicEnergy(STATISTICS)
    shifts, graph = EnergyShifts(term, 0.9), batch(torch.Generator().manual_seed(2))
    graph[keys.REF_ENERGY] = torch.full((3,), torch.nan)
    for _ in range(EVERY):
        shifts.observe(term, results_of(term, graph), graph)
    shifts.follow([term])
    assert torch.equal(term.table_neV, AtomicEnergy(STATISTICS).table_neV)
    other = EnergyShifts(torch.nn.Linear(1, 1), 0.9)
    other.observe(torch.nn.Linear(1, 1), {}, {})
    other.follow([])
