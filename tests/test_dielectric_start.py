"""The dielectric constant that bond charges start from: found in forces, beside a repulsion of unknown shape."""

import contract
import pytest
import torch
from test_contract import shrunk

from mlip import keys
from mlip.config import make
from mlip.data.graph import collate, to_graph
from mlip.electrostatics.bond_charges import UNFITTED, BondCharges
from mlip.training.dielectric_start import MOST, with_dielectric_start

EXACT = 2.5
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # no network, no features


def build(statistics, *words):
    torch.manual_seed(0)
    cfg = shrunk("model/network=none", "model/head=bond_charges", "model/pair=born_mayer", *words)
    return make(cfg)(statistics=statistics)


def labelled(potential, count=16):
    batches = []
    for seed in range(count):
        graph = collate([to_graph(contract.crystal(length=4.6, seed=seed), potential.cutoff, potential.levels)])
        graph[keys.REF_FORCES] = potential(graph)[keys.FORCES]
        batches.append(graph)
    return batches


def term_of(potential):
    return next(term for term in potential.modules() if isinstance(term, BondCharges))


def test_forces_of_screened_charges_and_a_repulsion_give_the_dielectric_constant():
    truth = build(contract.STATISTICS, f"model.terms.electrostatics.dielectric={EXACT}").double().eval()
    batches = labelled(truth)
    batches[0][keys.REF_FORCES][2] = torch.nan  # an atom without a label
    started = with_dielectric_start(build, contract.STATISTICS, batches)
    assert started["dielectric"] == pytest.approx(EXACT, rel=0.02)
    assert term_of(build(started)).dielectric().item() == pytest.approx(started["dielectric"])
    few = with_dielectric_start(build, contract.STATISTICS, batches[:2])  # fewer forces than shapes of pairs
    assert few["dielectric"] == UNFITTED and len(few["coulomb_energies"]) == len(contract.ELEMENTS)
    held = with_dielectric_start(
        lambda s: build(s, "model.terms.electrostatics.dielectric=4"), contract.STATISTICS, batches
    )
    assert "dielectric" not in held
    assert with_dielectric_start(
        lambda s: make(shrunk("model/network=none", "model/head=formal_charges"))(statistics=s), contract.STATISTICS, batches
    ) is contract.STATISTICS  # fmt: skip


def test_forces_that_no_charges_make_give_the_largest_dielectric_constant():
    truth = build(contract.STATISTICS, "model.terms.electrostatics.dielectric=1e6").double().eval()
    assert with_dielectric_start(build, contract.STATISTICS, labelled(truth))["dielectric"] == MOST


def test_a_change_of_the_dielectric_constant_hardly_moves_the_energies_of_the_training_set():
    """It would by eV per atom without the zero of every element."""
    batches = labelled(build(contract.STATISTICS).double().eval(), 4)
    started = with_dielectric_start(build, contract.STATISTICS, batches)
    moved = []
    for statistics in (started, {**started, "coulomb_energies": None}):
        potential = build(statistics).double().eval()
        energies = []
        for step in (0.0, 0.1):
            term_of(potential).log_susceptibility.data.fill_(step)
            energies.append(torch.stack([potential(graph)[keys.ENERGY][0] for graph in batches]))
        moved.append((energies[1] - energies[0]).abs().max().item())
    assert moved[1] > 0.5 and moved[0] < 0.2 * moved[1]
