"""What bonds transfer at the start of training: found in forces of known transfers, beside a repulsion of unknown shape."""

import contract
import pytest
import torch
from test_dielectric_start import build, labelled, term_of

from mlip import keys
from mlip.electrostatics.response import model_born_charges
from mlip.training.dielectric_start import with_dielectric_start
from mlip.training.transfer_start import with_transfer_start

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # no network, no features
WORDS = ("model.terms.electrostatics.dielectric=2.5", "model.terms.electrostatics.fit_transfer=true")


def test_forces_of_known_transfers_give_their_born_charges():
    """Li with O and with Cl: Born charges away from formal ones by more than an electron."""
    exact = [[0, 1, [-0.1, 0.05, 0.05, 0.0, 0.0, 0.0]], [0, 2, [0.05, 0.02, 0.0, 0.0, 0.0, 0.0]]]
    known = {**contract.STATISTICS, "bond_transfer": exact}
    truth = build(known, *WORDS).double().eval()
    formal = term_of(truth).formal
    batches = labelled(truth, 16)
    started = with_transfer_start(lambda s: build(s, *WORDS), contract.STATISTICS, batches, max_structures=16)
    label = model_born_charges(truth, batches[0])
    found = model_born_charges(build(started, *WORDS).double().eval(), batches[0])
    plain = formal[truth.lookup[batches[0][keys.ATOMIC_NUMBERS]]][:, None, None] * torch.eye(3)
    assert [row[:2] for row in started["bond_transfer"]] == [[0, 1], [0, 2]]
    assert (plain - label).abs().max() > 0.5
    assert (found - label).square().mean().sqrt() < 0.1 * (plain - label).square().mean().sqrt()


def test_what_is_not_asked_for_is_not_fitted():
    batches = labelled(build(contract.STATISTICS).double().eval(), 1)
    assert with_transfer_start(build, contract.STATISTICS, batches) is contract.STATISTICS
    both = with_dielectric_start(lambda s: build(s, *WORDS), contract.STATISTICS, batches)
    assert "bond_transfer" not in both
