"""Held-out frames are chosen first, by whole blocks of time, and come back in no other part."""

import numpy as np
import pytest

from mlip.data.splits import split, without_repeats

TRAJECTORY = np.array([0] * 50 + [1] * 30 + [2] * 20)
TIME = np.concatenate([np.arange(50)[::-1], np.arange(30), np.arange(20)]).astype(float)
TYPES = np.array(["hot"] * 80 + ["cold"] * 20)


@pytest.mark.parametrize("method", ["block", "random"])
def test_parts_never_overlap_and_lose_no_frame(method):
    parts = split(TRAJECTORY, TIME, TYPES, 0.1, 0.2, method)
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [70, 10, 20]
    assert sorted(np.concatenate(list(parts.values()))) == list(range(100))


def test_blocks_are_the_last_frames_of_each_trajectory_in_time():
    parts = split(TRAJECTORY, TIME, TYPES, 0.1, 0.2, "block")
    for name in range(3):
        inside = {part: TIME[chosen][TRAJECTORY[chosen] == name] for part, chosen in parts.items()}
        assert inside["train"].max() < inside["validation"].min()
        assert inside["validation"].max() < inside["test"].min()


def test_single_frame_files_are_spread_over_the_parts():
    parts = split(np.arange(100), np.zeros(100), TYPES, 0.1, 0.1, "block")
    assert len(parts["test"]) == 10 and np.diff(parts["test"]).min() >= 5


def test_config_types_are_held_out_whole_and_the_rest_is_split():
    parts = split(TRAJECTORY, TIME, TYPES, 0.1, ["cold"], "block")
    assert set(TYPES[parts["test"]]) == {"cold"} and len(parts["test"]) == 20
    assert set(TYPES[parts["validation"]]) == {"hot"} and len(parts["validation"]) == 10
    with pytest.raises(KeyError, match="no frame has config_type 'warm'; there are: cold, hot"):
        split(TRAJECTORY, TIME, TYPES, test=["warm"])


def test_the_test_part_does_not_depend_on_the_validation_part():
    for method in ("block", "random"):
        small, large = (split(TRAJECTORY, TIME, TYPES, v, 0.2, method, seed=3) for v in (0, 0.3))
        assert np.array_equal(small["test"], large["test"])
    other = split(TRAJECTORY, TIME, TYPES, 0, 0.2, "random", seed=4)
    assert not np.array_equal(small["test"], other["test"])


def test_counts_and_impossible_wishes():
    assert len(split(TRAJECTORY, TIME, TYPES, 0, 17, "random")["test"]) == 17
    with pytest.raises(ValueError, match="no frame is left for training"):
        split(TRAJECTORY, TIME, TYPES, 50, 50)
    with pytest.raises(ValueError, match=r"split.test is a fraction below 1.*got 1.5"):
        split(TRAJECTORY, TIME, TYPES, test=1.5)
    with pytest.raises(ValueError, match="'block' or 'random', got 'shuffle'"):
        split(TRAJECTORY, TIME, TYPES, method="shuffle")


def test_a_training_frame_that_repeats_a_held_out_structure_is_dropped():
    geometry = np.arange(6, dtype="u1")[:, None].repeat(16, axis=1)
    geometry[0] = geometry[5]  # train = test
    geometry[1] = geometry[4]  # train = validation
    parts = {"train": np.array([0, 1, 2, 3]), "validation": np.array([4]), "test": np.array([5])}
    kept, dropped = without_repeats(parts, geometry)
    assert dropped == 2
    assert [kept[part].tolist() for part in ("train", "validation", "test")] == [[2, 3], [4], [5]]
