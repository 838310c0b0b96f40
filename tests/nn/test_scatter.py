"""Segment sums and gathers: the same numbers natively and with torch_scatter."""

import pytest
import torch

from mlip.nn import scatter
from mlip.nn.scatter import gather_rows, segment_sum


def example(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    segment = torch.tensor([0, 0, 1, 3, 3, 3])  # segment 2 is empty
    return torch.randn(6, 4, dtype=dtype, generator=generator), segment


def test_segment_sum_adds_rows_and_leaves_empty_segments_at_zero():
    values, segment = example()
    result = segment_sum(values, segment, 5)
    for s in range(5):
        assert torch.allclose(result[s], values[segment == s].sum(0))


def test_gather_is_indexing_to_second_derivatives():
    values, _ = example()
    index = torch.tensor([[2, 0], [2, 5]])
    assert torch.equal(gather_rows(values, index), values[index])
    values.requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda v: gather_rows(v, index).pow(3).sum(), values)


@pytest.mark.scatter
def test_torch_scatter_gives_the_native_numbers(monkeypatch):
    pytest.importorskip("torch_scatter")
    assert scatter.segment_coo is not None
    values, segment = example()
    values.requires_grad_(True)
    ours = segment_sum(values, segment, 5)
    gradient = torch.autograd.grad(ours.pow(2).sum(), values)[0]
    monkeypatch.setattr(scatter, "segment_coo", None)
    native = segment_sum(values, segment, 5)
    assert torch.allclose(ours, native, atol=1e-14)
    assert torch.allclose(gradient, torch.autograd.grad(native.pow(2).sum(), values)[0], atol=1e-14)


@pytest.mark.scatter
def test_sorted_sums_repeat_to_the_bit():
    pytest.importorskip("torch_scatter")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(20000, generator=generator).to(device)
    segment = torch.randint(0, 50, (20000,), generator=generator).sort().values.to(device)
    first = segment_sum(values, segment, 50)
    assert all(torch.equal(first, segment_sum(values, segment, 50)) for _ in range(10))


@pytest.mark.scatter
def test_a_sum_of_no_rows_is_zero_and_has_a_gradient():
    values = torch.zeros(0, 3, requires_grad=True)
    total = segment_sum(values, torch.zeros(0, dtype=torch.int64), 2)
    assert not total.any() and torch.autograd.grad(total.sum(), values)[0].shape == (0, 3)


@pytest.mark.scatter
def test_a_potential_has_the_same_energy_and_forces_with_torch_scatter(monkeypatch):
    pytest.importorskip("torch_scatter")
    from functools import partial

    import contract

    from mlip.models.potential import Potential
    from mlip.models.repulsion import ZBL
    from mlip.models.spherical import NetworkEnergy, SphericalNetwork

    torch.manual_seed(0)
    network = partial(SphericalNetwork, cutoff=5.0, n_channels=8, l_max=2, n_layers=2, n_basis=8, n_species=4)
    terms = {"network": partial(NetworkEnergy, n_hidden=8), "repulsion": ZBL}
    potential = Potential(network, terms, contract.STATISTICS).double().eval()
    sorted_sums = contract.evaluate(potential, contract.crystal())
    monkeypatch.setattr(scatter, "segment_coo", None)
    native = contract.evaluate(potential, contract.crystal())
    for key in ("energy", "forces", "stress"):
        contract.close(sorted_sums[key], native[key], 1e-10, key)
