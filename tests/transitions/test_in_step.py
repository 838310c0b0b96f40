"""Bands that are relaxed at once are those that are relaxed one by one, in as many calls as the longest takes."""

import numpy as np
import pytest
from cosine import SITE, Cosine, crystal
from test_neb import Batched

from mlip.errors import InputError
from mlip.transitions.in_step import in_step
from mlip.transitions.neb import neb


def hops():
    start = crystal()
    ends = [start.copy() for _ in range(3)]
    for axis, end in enumerate(ends):
        end.positions[0, axis] += SITE
    return [(start, end) for end in ends]


def relax(hop, calculator):
    return neb(*hop, calculator, fmax=0.005)


def test_bands_together_equal_bands_alone_in_the_calls_of_the_longest():
    landscape = Cosine(crystal(), bend=0.8, axes=(1.0, 0.7, 0.4))
    alone, sizes = [], []
    for hop in hops():
        counting = Batched(landscape)
        alone.append(relax(hop, counting))
        sizes.append(counting.sizes)
    counting = Batched(landscape)
    together = in_step(relax, hops(), counting)
    assert len(counting.sizes) == max(map(len, sizes)) < sum(map(len, sizes))
    assert counting.sizes[:2] == [6, 15]
    for one, other in zip(alone, together, strict=True):
        assert one.steps == other.steps and one.barrier > 0.1
        np.testing.assert_array_equal(one.energies, other.energies)


class Refusing(Batched):
    """A model that has no answer for ions that have moved along y."""

    def calculate_many(self, structures):
        if any(0.6 < atoms.positions[0, 1] < SITE - 0.6 for atoms in structures):
            raise InputError("atoms overlap")
        return super().calculate_many(structures)


def test_a_band_that_the_model_refuses_leaves_the_others_alone():
    found = in_step(relax, hops(), Refusing(Cosine(crystal())))
    assert isinstance(found[1], InputError) and "atoms overlap" in str(found[1])
    assert found[0].converged and found[2].converged


def test_any_other_error_ends_all():
    class Broken:
        def calculate_many(self, structures):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        in_step(relax, hops(), Broken())

    def defect(hop, calculator):
        raise KeyError("defect")

    with pytest.raises(KeyError, match="defect"):
        in_step(defect, hops(), Cosine(crystal()))
    assert in_step(relax, [], Cosine(crystal())) == []
