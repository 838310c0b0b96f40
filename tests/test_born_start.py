"""What bonds transfer at the start of training if Born charges are labels: found in those of known transfers."""

import contract
import pytest
from test_dielectric_start import build, labelled
from test_transfer_start import WORDS

from mlip import keys
from mlip.electrostatics.response import model_born_charges
from mlip.training.born_start import with_born_start
from mlip.training.transfer_start import with_transfer_start

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # no network, no features


def asked(statistics):
    return build(statistics, *WORDS)


def test_born_charges_of_known_transfers_are_the_start():
    exact = [[0, 1, [-0.1, 0.05, 0.05, 0.0, 0.0, 0.0]], [0, 2, [0.05, 0.02, 0.0, 0.0, 0.0, 0.0]]]
    truth = asked({**contract.STATISTICS, "bond_transfer": exact}).double().eval()
    batches = labelled(truth, 4)
    unlabelled = with_born_start(asked, contract.STATISTICS, batches)
    assert unlabelled is contract.STATISTICS
    for graph in batches:
        graph[keys.REF_BORN_CHARGES] = model_born_charges(truth, graph)
    started = with_born_start(asked, contract.STATISTICS, batches)
    found = model_born_charges(asked(started).double().eval(), batches[0])
    assert (found - batches[0][keys.REF_BORN_CHARGES]).abs().max() < 1e-4
    assert with_transfer_start(asked, started, batches) is started  # forces do not undo it
    assert with_born_start(build, contract.STATISTICS, batches) is contract.STATISTICS  # not asked for
