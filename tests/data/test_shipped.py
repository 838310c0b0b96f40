"""The data sets that ship: labels that are right, hops that test kept apart from what trains."""

import pytest

from mlip import cli
from mlip.data.doctor import check, has_errors
from mlip.data.structures import read
from mlip.labelling.engine import structure_id
from mlip.sampling.errors import labelled_barriers, last_similar

FOLDER = cli.CONFIGS.parent / "datasets" / "li3ycl6"


@pytest.fixture(scope="module")
def sets():
    return read(str(FOLDER / "li3ycl6_gpaw.xyz")), read(str(FOLDER / "li3ycl6_hops_gpaw.xyz"))


def test_the_labels_of_li3ycl6_are_right(sets):
    for file, frames in zip(("li3ycl6_gpaw.xyz", "li3ycl6_hops_gpaw.xyz"), sets, strict=True):
        assert not has_errors(check(files=str(FOLDER / file)))
        assert {str(atoms.symbols) for atoms in frames} == {"Y3Cl18Li9"}


def test_hops_that_test_are_six_and_none_of_their_structures_trains(sets):
    train, hops = sets
    barriers = labelled_barriers(hops)
    assert len(barriers) == 6 and all(0.1 < value < 0.6 for value in barriers.values())
    assert not {structure_id(atoms) for atoms in train} & {structure_id(atoms) for atoms in hops}
    assert len({structure_id(atoms) for atoms in train}) == len(train) > 200
    assert all(last_similar(hop, train, 0.05) is None for hop in hops), "nor do near copies"
