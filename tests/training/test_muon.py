"""Muon: matrices take orthogonal steps, everything else AdamW's."""

import torch
from torch import nn

from mlip.training.muon import muon, orthogonalise


def test_orthogonalised_matrices_have_singular_values_near_one_and_the_same_singular_vectors():
    torch.manual_seed(0)
    for shape in ((3, 8, 8), (2, 12, 5), (4, 9)):
        matrix = torch.randn(shape, dtype=torch.float64)
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        result = orthogonalise(matrix)
        core = u.mT @ result @ v.mT
        diagonal = core.diagonal(dim1=-2, dim2=-1)
        assert (core - torch.diag_embed(diagonal)).abs().max() < 1e-10
        assert diagonal.min() > 0.3 and diagonal.max() < 1.3


def test_what_is_no_matrix_moves_as_adamw_moves_it():
    torch.manual_seed(0)
    ours, theirs = nn.LayerNorm(7), nn.LayerNorm(7)
    optimizer = muon(ours, lr=0.03, weight_decay=0.1, momentum=0.95, betas=(0.9, 0.99))
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.03, weight_decay=0.0, betas=(0.9, 0.99))
    for _ in range(5):
        x, y = torch.randn(4, 7), torch.randn(4, 7)
        for model, opt in ((ours, optimizer), (theirs, reference)):
            opt.zero_grad()
            (model(x) - y).square().mean().backward()
            opt.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6) and torch.allclose(ours.bias, theirs.bias, atol=1e-6)


def test_a_saved_optimizer_goes_on_as_if_never_stopped():
    torch.manual_seed(0)
    batches = [torch.randn(4, 6) for _ in range(6)]

    def train(model, optimizer, part):
        for x in part:
            optimizer.zero_grad()
            (model(x) - 1).square().mean().backward()
            optimizer.step()

    def make():
        torch.manual_seed(1)
        model = nn.Linear(6, 3)
        return model, muon(model, lr=0.02, weight_decay=1e-3, momentum=0.95, betas=(0.9, 0.999))

    whole, optimizer = make()
    train(whole, optimizer, batches)
    first, optimizer = make()
    train(first, optimizer, batches[:3])
    second, resumed = make()
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    train(second, resumed, batches[3:])
    assert torch.equal(whole.weight, second.weight) and torch.equal(whole.bias, second.bias)
