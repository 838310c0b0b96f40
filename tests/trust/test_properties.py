"""Properties that hold for every input: readers, splits, neighbour lists, unwrapping, rules of numbers, stages of a sampling.

hypothesis looks for the input that breaks them, and keeps none of it on disk.
"""

import math
import tempfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlip import keys
from mlip.data.graph import neighbour_vectors
from mlip.data.splits import TEST, TRAIN, VALIDATION, split, without_repeats
from mlip.data.structures import read
from mlip.errors import InputError
from mlip.evaluation.displacements import SAFE_PART, unwrap
from mlip.number_rules import RULES, Rule
from mlip.sampling.store import SamplingStore

settings.register_profile("mlip", deadline=None, derandomize=True, database=None, max_examples=60,
                          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
settings.load_profile("mlip")
SEEDS = st.integers(0, 2**32 - 1)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
    st.sampled_from(["block", "random"]),
    SEEDS,
)
def test_parts_of_a_split_are_all_frames_once_and_as_many_as_were_asked_for(trajectory, validation, test, method, seed):
    n = len(trajectory)
    order = np.random.default_rng(seed).permutation(n)
    frames = np.array(trajectory), order, np.array(["a"] * n)
    if round(validation * n) + round(test * n) >= n:
        with pytest.raises(InputError, match="no frame is left for training"):
            split(*frames, validation, test, method, seed)
        return
    parts = split(*frames, validation, test, method, seed)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(n))
    assert len(parts[TEST]) == round(test * n) and len(parts[VALIDATION]) == round(validation * n)
    if method == "block":  # no frame trains that stands behind one that is held out, in its trajectory
        for number in set(trajectory):
            stands = [
                order[[i for i in part if trajectory[i] == number]]
                for part in (parts[TRAIN], parts[VALIDATION], parts[TEST])
            ]
            for early, late in ((0, 1), (1, 2), (0, 2)):
                assert not len(stands[early]) or not len(stands[late]) or stands[early].max() < stands[late].min()


@given(st.lists(st.integers(0, 8), min_size=3, max_size=30), SEEDS)
def test_no_structure_is_in_two_parts(structures, seed):
    where = np.random.default_rng(seed).integers(0, 3, len(structures))
    parts = {part: np.flatnonzero(where == number) for number, part in enumerate((TRAIN, VALIDATION, TEST))}
    geometry = np.array([[number] * 16 for number in structures], dtype="u1")
    kept, dropped = without_repeats(parts, geometry)
    held = [{structures[i] for i in kept[part]} for part in (TRAIN, VALIDATION, TEST)]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    assert set.union(*held) == set(structures) and dropped == len(structures) - sum(map(len, kept.values()))


@st.composite
def cells(draw) -> Atoms:
    """A few atoms in a skewed cell of 2 to 6 Å, anywhere, with any boundaries."""
    rng = np.random.default_rng(draw(SEEDS))
    n = draw(st.integers(1, 4))
    cell = np.diag(rng.uniform(2, 6, 3)) + np.tril(rng.uniform(-1.5, 1.5, (3, 3)), -1)
    return Atoms(["Li"] * n, rng.uniform(-15, 15, (n, 3)), cell=cell, pbc=draw(st.tuples(*[st.booleans()] * 3)))


@given(cells(), st.floats(0.5, 5.0))
def test_the_neighbours_are_those_of_a_sum_over_images(atoms, cutoff):
    i, j, vector = neighbour_vectors(atoms, cutoff)
    fraction = np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T
    reach = (
        np.ceil(np.ptp(fraction, axis=0) + cutoff * np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)) * atoms.pbc
    )
    shifts = (
        np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3)
        @ atoms.cell.array
    )
    all_vectors = atoms.positions[None, :, None] - atoms.positions[:, None, None] + shifts
    distance = np.linalg.norm(all_vectors, axis=-1)
    inside = (distance < cutoff) & (distance > 1e-9)
    assert np.abs(distance[distance > 1e-9] - cutoff).min(initial=1.0) < 1e-9 or len(i) == inside.sum()
    slow = np.sort(distance[inside])
    assert len(i) != inside.sum() or np.abs(np.sort(np.linalg.norm(vector, axis=1)) - slow).max(initial=0.0) < 1e-9
    assert sorted(zip(i, j, strict=True)) == sorted(zip(j, i, strict=True))


@given(SEEDS, st.integers(2, 12), st.floats(0.0, 0.2))
def test_a_walk_is_found_again_from_its_wrapped_positions(seed, n_frames, longest):
    rng = np.random.default_rng(seed)
    walk = np.cumsum(
        np.concatenate([rng.uniform(0, 1, (1, 3, 3)), rng.uniform(-longest, longest, (n_frames, 3, 3))]), axis=0
    )
    cell = np.tile(np.eye(3) * 7.0, (n_frames + 1, 1, 1))
    found = unwrap(walk % 1.0, cell)
    assert np.abs(found - found[0] - (walk - walk[0])).max() < 1e-12


@given(SEEDS, st.floats(1.001 * SAFE_PART / 2, 0.5), st.integers(0, 2))
def test_a_step_of_almost_half_a_cell_is_never_guessed(seed, step, axis):
    positions = np.tile(np.random.default_rng(seed).uniform(0, 1, (1, 4, 3)), (3, 1, 1))
    positions[2, 1, axis] += step
    with pytest.raises(InputError, match="half the width of the cell"):
        unwrap(positions % 1.0, np.tile(np.eye(3) * 5.0, (3, 1, 1)))


NUMBERS = st.one_of(
    st.integers(-(10**12), 10**12), st.floats(allow_nan=True, allow_infinity=True), st.booleans(), st.text(max_size=3)
)


@given(NUMBERS)
@example(math.nan)
@example(-0.0)
def test_a_value_that_breaks_a_rule_of_numbers_is_never_the_nearest_valid_one(value):
    for rule in [rule for rule in RULES.values() if isinstance(rule, Rule)]:
        nearest = rule.nearest(value)
        assert nearest is None or rule.holds(nearest)
        if rule.holds(value) and rule.word is None:
            assert math.isfinite(value) and not isinstance(value, bool)
            assert nearest == value


@given(SEEDS, st.integers(1, 5), st.booleans(), st.floats(-1e4, 1e4))
def test_what_is_written_as_extxyz_is_read_to_the_last_bit(seed, n, periodic, energy):
    rng = np.random.default_rng(seed)
    atoms = Atoms(["Li", "Cl"][: 1 + n % 2] + ["O"] * n, cell=np.eye(3) * 9 + rng.uniform(-1, 1, (3, 3)), pbc=periodic)
    atoms.positions = np.round(rng.uniform(0, 9, (len(atoms), 3)), 8)
    forces = np.round(rng.normal(size=(len(atoms), 3)), 8)
    atoms.info["REF_energy"], atoms.arrays["REF_forces"] = energy, forces
    with tempfile.TemporaryDirectory() as folder:
        ase.io.write(f"{folder}/a.xyz", atoms)
        again = read(f"{folder}/a.xyz")[0]
    assert again.info[keys.REF_ENERGY] == energy and (again.arrays[keys.REF_FORCES] == forces).all()
    assert (
        (again.positions == atoms.positions).all()
        and (again.numbers == atoms.numbers).all()
        and (again.pbc == atoms.pbc).all()
    )


@given(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=12),
    st.dictionaries(st.text("xyz", max_size=3), st.integers()),
)
def test_a_stage_of_a_sampling_is_made_once_and_always_answers_the_same(stages, content):
    """Whatever the order in which a killed sampling comes back to its stages."""
    made: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for stage in stages:
            store = SamplingStore(Path(folder) / "run", {"seed": 1})  # as a new process would
            answer = store.content(1, stage, lambda stage=stage: (made.append(stage), {**content, "n": len(made)})[1])
            assert answer == {**content, "n": made.index(stage) + 1}
    assert len(made) == len(set(stages))
