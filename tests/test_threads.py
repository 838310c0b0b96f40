"""Threads follow size and load, and the user's own number stays."""

import os

import pytest
import torch

from mlip.threads import set_threads, threads_for


@pytest.mark.parametrize(
    "n_atoms, allowed, cores, load, expected",
    [
        (10_000, 8, 8, 0.0, 8),  # a quiet machine
        (10_000, 8, 8, 5.3, 3),  # what others leave free
        (10_000, 2, 8, 0.0, 2),  # no more than allowed
        (52, 8, 8, 0.0, 1),  # too small to share
        (416, 8, 8, 0.0, 4),
        (416, 2, 2, 2.4, 1),  # a busy machine: one, never none
        (0, 2, 2, 0.0, 1),
    ],
)
def test_threads_follow_size_and_load(n_atoms, allowed, cores, load, expected):
    assert threads_for(n_atoms, allowed, cores, load) == expected


def test_two_processes_do_not_ask_for_more_than_the_machine_has():
    first = threads_for(1000, 2, 2, 0.0)
    assert first == 2
    assert threads_for(1000, 2, 2, float(first)) == 1


@pytest.fixture
def threads_before():
    kept = torch.get_num_threads()
    yield
    torch.set_num_threads(kept)


def test_threads_are_set_and_said(threads_before, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.8, 9.0, 9.0))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(3)
    assert set_threads(1000) == "2 (1000 atoms, 4 cores, load 1.8; OMP_NUM_THREADS sets it)"
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    assert set_threads(10) == "3 (OMP_NUM_THREADS)"
    assert torch.get_num_threads() == 3
