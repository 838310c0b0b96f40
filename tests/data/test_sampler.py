"""Batches keep their bounds, cover every frame once, and go on where they stopped."""

import numpy as np
import pytest
import torch

from mlip.data.sampler import EdgeBatchSampler, GraphLoader

SIZES = np.random.default_rng(0).integers(200, 5000, 300)


@pytest.mark.parametrize("world_size", [1, 3])
def test_every_frame_comes_once_and_no_batch_passes_its_bounds(world_size):
    samplers = [EdgeBatchSampler(SIZES, 20_000, 12, seed=1, rank=rank, world_size=world_size)
                for rank in range(world_size)]  # fmt: skip
    assert len({len(sampler) for sampler in samplers}) == 1, "ranks do the same number of steps"
    batches = [batch for sampler in samplers for batch in sampler]
    assert sorted(i for batch in batches for i in batch) == list(range(300))
    assert max(SIZES[batch].sum() for batch in batches) <= 20_000
    assert max(map(len, batches)) <= 12
    assert len(batches) <= 1.35 * max(SIZES.sum() / 20_000, 300 / 12), "packing wastes little"


def test_epochs_differ_in_content_but_not_in_number_of_batches():
    sampler = EdgeBatchSampler(SIZES, 20_000, seed=1)
    first, second = list(sampler), list(sampler)  # the next pass is the next epoch
    assert len(first) == len(second) == len(sampler)
    assert first != second
    assert {frozenset(b) for b in first}.isdisjoint({frozenset(b) for b in second})
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(EdgeBatchSampler(SIZES, 20_000, seed=2)) != first


@pytest.mark.parametrize("stop", [0, 7, "end"])
def test_a_loaded_position_gives_exactly_the_remaining_batches(stop):
    sampler = EdgeBatchSampler(SIZES, 20_000, seed=1)
    sampler.set_epoch(4)
    stop = len(sampler) if stop == "end" else stop
    whole = [batch for _ in range(2) for batch in sampler]
    sampler.set_epoch(4)
    given = iter(sampler)
    for _ in range(stop):
        next(given)
    state = sampler.state_dict() if stop else {**sampler.state_dict(), "epoch": 4, "position": 0}
    resumed = EdgeBatchSampler(SIZES, 20_000, seed=1)
    resumed.load_state_dict(state)
    rest = list(resumed)
    assert (rest if stop < len(sampler) else [])[:3] == whole[stop : len(sampler)][:3]
    rest += list(resumed)
    assert rest[: len(whole) - stop] == whole[stop:]


def test_a_position_of_other_data_is_refused():
    state = EdgeBatchSampler(SIZES, 20_000, seed=1).state_dict()
    with pytest.raises(ValueError, match="seed is 1, this run's is 2"):
        EdgeBatchSampler(SIZES, 20_000, seed=2).load_state_dict(state)
    with pytest.raises(ValueError, match="n_batches"):
        EdgeBatchSampler(SIZES, 10_000, seed=1).load_state_dict(state)


def test_more_ranks_than_frames_repeat_a_frame_rather_than_wait_for_each_other():
    batches = [list(EdgeBatchSampler([10, 10], batch_size=4, rank=rank, world_size=3)) for rank in range(3)]
    assert [len(b) for b in batches] == [1, 1, 1]
    assert {i for b in batches for i in b[0]} == {0, 1}


def test_in_validation_no_frame_counts_twice_on_two_ranks():
    ranks = [EdgeBatchSampler([10] * 3, batch_size=1, shuffle=False, rank=rank, world_size=2) for rank in (0, 1)]
    assert sorted(i for rank in ranks for batch in rank for i in batch) == [0, 1, 2]
    assert [len(rank) for rank in ranks] == [len(list(rank)) for rank in ranks] == [2, 1]


def test_bounds_that_cannot_be_kept_name_the_frame_and_the_remedy():
    with pytest.raises(ValueError, match="frame 1 has 900 edges.*at least 900"):
        EdgeBatchSampler([10, 900], edges_per_batch=500)
    with pytest.raises(ValueError, match="needs a bound"):
        EdgeBatchSampler([10])
    with pytest.raises(ValueError, match="no frames"):
        EdgeBatchSampler([], batch_size=2)


class Frames(torch.utils.data.Dataset):
    """Graphs that are only a number."""

    def __getitem__(self, i):
        return {"positions": torch.zeros(1, 3), "cell": torch.zeros(1, 3, 3), "number": torch.tensor([i])}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_resumes_after_the_last_batch_it_handed_out_also_with_workers_reading_ahead(workers):
    def loader():
        return GraphLoader(Frames(), EdgeBatchSampler(SIZES[:60], 20_000, seed=1), workers)

    def numbers(batches):
        return [batch["number"].tolist() for batch in batches]

    whole = numbers(loader())
    before = torch.random.get_rng_state()
    first = loader()
    given = iter(first)
    start = numbers([next(given), next(given)])
    state = first.state_dict()
    assert (state["epoch"], state["position"]) == (0, 2)
    second = loader()
    second.load_state_dict(state)
    assert start + numbers(second) == whole
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is not touched"
    assert numbers(second) != whole, "then comes the next epoch"


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_given_up_early_goes_on_in_training_and_starts_again_in_validation(workers):
    loader = GraphLoader(Frames(), EdgeBatchSampler(SIZES[:60], 20_000, shuffle=False), workers)
    next(iter(loader))  # Lightning's sanity check
    assert len(list(loader)) == len(loader)
    training = GraphLoader(Frames(), EdgeBatchSampler(SIZES[:60], 20_000), workers)
    whole = [batch["number"].tolist() for batch in training]
    training = GraphLoader(Frames(), EdgeBatchSampler(SIZES[:60], 20_000), workers)
    given = [next(iter(training))["number"].tolist()]
    assert given + [batch["number"].tolist() for batch in training] == whole
