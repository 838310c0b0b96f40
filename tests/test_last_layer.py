"""Doubt of the last layer against Bayes' closed form, derivative by derivative; scales against known spreads."""

import math

import contract
import numpy as np
import pytest
import torch
from morse import morse_potential
from test_committee import small, uncertainty_does_not_depend_on_axes_or_order, uncertainty_goes_through_the_file

from mlip import keys
from mlip.data.graph import to_graph
from mlip.models.last_layer import LastLayer
from mlip.training import uncertainty

N_LAST = 2 * 6 + 5


def labelled(potential, n=6, seed=0, noise=0.02):
    """Frames with the potential's own labels plus normal noise, as graphs."""
    rng = np.random.default_rng(seed)
    graphs = []
    for i in range(n):
        graph = to_graph(contract.crystal(seed=i + 10 * seed), potential.cutoff, potential.levels)
        results = potential(graph)
        graph[keys.REF_ENERGY] = results["energy"] + noise * torch.from_numpy(rng.normal(size=1))
        graph[keys.REF_FORCES] = results["forces"] + noise * torch.from_numpy(rng.normal(size=(8, 3)))
        graphs.append(graph)
    return graphs


def by_weights(potential, graph, number):
    """Derivative of an energy or a force component by the last weights, by autograd through the trained parameters."""
    term = potential.terms[potential.term_names.index("network")]
    potential.train()
    results = potential(graph)
    gradients = torch.autograd.grad(number(results), [term.linear.weight, term.out.weight])
    potential.eval()
    return torch.cat([g.ravel() for g in gradients])


def test_the_posterior_is_that_of_bayesian_linear_regression():
    rng = np.random.default_rng(0)
    n_last, noise, zeta = 5, 0.3, 2.0
    x, new = rng.normal(size=(12, n_last)), rng.normal(size=n_last)
    root = uncertainty.posterior_root(torch.from_numpy(x / noise), zeta).numpy()
    exact = np.linalg.inv(x.T @ x / noise**2 + zeta**2 * np.eye(n_last))
    np.testing.assert_allclose(root @ root.T, exact, rtol=1e-10, atol=1e-14)
    # and what it promises: errors of the fitted prediction, over worlds drawn from the prior
    weights = rng.normal(size=(20000, n_last)) / zeta
    labels = weights @ x.T + noise * rng.normal(size=(20000, 12))
    errors = (labels @ x / noise**2 @ exact - weights) @ new
    assert errors.std() == pytest.approx(math.sqrt(new @ exact @ new), rel=0.02)


def test_sigma_of_the_energy_is_bayes_closed_form_of_the_model_itself():
    potential = small(0)
    graphs = labelled(potential)
    for graph in graphs:
        graph[keys.REF_FORCES] = torch.full_like(graph[keys.REF_FORCES], torch.nan)
    residual = torch.cat([potential(graph)["energy"] - graph[keys.REF_ENERGY] for graph in graphs])
    rows = torch.stack([by_weights(potential, graph, lambda r: r["energy"][0]) for graph in graphs])
    exact = torch.linalg.inv(rows.T @ rows / residual.square().mean() + torch.eye(N_LAST))
    new = to_graph(contract.crystal(seed=77), potential.cutoff, potential.levels)
    f = by_weights(potential, new, lambda r: r["energy"][0])
    found = uncertainty.last_layer(potential, graphs, n_draws=2)(new)
    assert float(found["energy_sigma"]) == pytest.approx(float((f @ exact @ f).sqrt()), rel=1e-8)
    torch.testing.assert_close(found["forces"], potential(new)["forces"], rtol=0, atol=1e-14)
    other = uncertainty.last_layer(potential, graphs, n_draws=2)(graphs[0])
    g = f - by_weights(potential, graphs[0], lambda r: r["energy"][0])  # of an energy difference
    barrier = torch.linalg.norm(found["energy_spread"] - other["energy_spread"])
    assert float(barrier) == pytest.approx(float((g @ exact @ g).sqrt()), rel=1e-8)


def test_all_draws_together_are_the_exact_sigma_of_every_force_and_few_are_right_on_average():
    potential = small(0)
    root = uncertainty.posterior_root(uncertainty.fitted_rows(potential, labelled(potential)))
    graph = to_graph(contract.crystal(seed=77), potential.cutoff, potential.levels)
    found = LastLayer(potential, root, N_LAST).eval()(graph)["force_sigma"]
    for atom in (0, 5):
        jacobian = torch.stack(
            [by_weights(potential, graph, lambda r, a=a, atom=atom: r["forces"][atom, a]) for a in range(3)]
        )
        assert float(found[atom]) == pytest.approx(float(torch.linalg.norm(jacobian @ root)), rel=1e-8)
    few = [LastLayer(potential, root, 4, seed).eval()(graph)["force_sigma"].square() for seed in range(60)]
    torch.testing.assert_close(torch.stack(few).mean(0), found.square(), rtol=0.25, atol=0)
    with pytest.raises(ValueError, match="from 1 to the 17"):
        LastLayer(potential, root, 18)


def test_random_signs_stand_for_all_force_components(monkeypatch):
    potential = small(0)
    graph = labelled(potential, n=1)[0]
    graph[keys.REF_ENERGY] = torch.full_like(graph[keys.REF_ENERGY], torch.nan)
    graph[keys.REF_FORCES][3] = torch.nan  # an atom without a label does not count
    monkeypatch.setattr(uncertainty, "DIRECTIONS", 300)
    rows = uncertainty.fitted_rows(potential, [graph])
    kept = [i for i in range(8) if i != 3]
    rms = (potential(graph)["forces"] - graph[keys.REF_FORCES])[kept].square().mean().sqrt()
    exact = (
        torch.stack(
            [by_weights(potential, graph, lambda r, i=i, a=a: r["forces"][i, a]) for i in kept for a in range(3)]
        )
        / rms
    )
    wanted, found = exact.T @ exact, rows.T @ rows
    assert float((found - wanted).norm() / wanted.norm()) < 0.15


def test_a_frame_in_the_training_set_takes_uncertainty_away_everywhere_and_leaves_less_than_its_noise_there():
    potential = small(0)
    graphs = labelled(potential, n=4)
    new = labelled(potential, n=1, seed=5)[0]
    rows, more = uncertainty.fitted_rows(potential, graphs), uncertainty.fitted_rows(potential, [new])
    before, after = uncertainty.posterior_root(rows), uncertainty.posterior_root(torch.cat([rows, more]))
    for graph in [new, *labelled(potential, n=3, seed=7)]:
        sigma = [LastLayer(potential, root, N_LAST).eval()(graph) for root in (before, after)]
        for name in ("energy_sigma", "force_sigma"):
            assert bool((sigma[1][name] < sigma[0][name]).all())
    noise = float((potential(new)["energy"] - new[keys.REF_ENERGY]).abs())
    assert float(LastLayer(potential, after, 1).eval()(new)["energy_sigma"]) < noise


def test_uncertainty_does_not_depend_on_axes_or_order_and_goes_through_the_file(tmp_path):
    potential = small(0)
    wrapped = uncertainty.last_layer(potential, labelled(potential), n_draws=3)
    wrapped.energy_scale.fill_(30.0), wrapped.force_scale.copy_(torch.tensor([10.0, 20.0, 30.0]))
    uncertainty_does_not_depend_on_axes_or_order(wrapped)
    uncertainty_goes_through_the_file(wrapped, tmp_path / "last_layer.pt")


def test_a_potential_without_a_last_layer_says_so():
    potential = morse_potential()
    graph = to_graph(contract.crystal()[[0, 2]], potential.cutoff, potential.levels)
    with pytest.raises(ValueError, match="committee"):
        uncertainty.last_layer_features(potential, graph)


@pytest.mark.parametrize("members", [2, 3, 8, 1000])
def test_the_scale_of_true_spreads_is_one_however_few_members_told_them(members):
    rng = np.random.default_rng(members)
    true = rng.uniform(0.1, 1.0, size=20000)
    told = true * np.sqrt(rng.chisquare(members - 1, size=20000) / (members - 1))
    error = rng.normal(size=20000) * true
    found = uncertainty.scale(torch.from_numpy(told), torch.from_numpy(error)[:, None], members - 1)
    # from five degrees of freedom on, it makes normal intervals of spreads that are uncertain themselves
    wanted = 1.0 if members < 6 else math.sqrt((members - 1) / (members - 3))
    assert found == pytest.approx(wanted, rel=0.04)


def test_calibration_finds_the_scale_of_every_element():
    potential = small(0)
    wrapped = uncertainty.last_layer(potential, labelled(potential), n_draws=4)
    graphs, rng = labelled(potential, n=30, seed=3, noise=0.0), np.random.default_rng(0)
    scales, raw = {3: 2.0, 8: 0.5}, wrapped(graphs[0])
    for graph in graphs:
        results, numbers = wrapped(graph), graph[keys.ATOMIC_NUMBERS]
        # Cl has no label
        spread = results["force_sigma"] * torch.tensor([scales.get(int(z), math.nan) for z in numbers])
        graph[keys.REF_FORCES] = results["forces"] + spread[:, None] / math.sqrt(3) * torch.from_numpy(
            rng.normal(size=(8, 3))
        )
        graph[keys.REF_ENERGY] = results["energy"] + 3 * results["energy_sigma"] * rng.normal()
    found = uncertainty.calibrate(wrapped, graphs)
    assert found["force_scale"][3] == pytest.approx(2.0, rel=0.15) and found["force_scale"][8] == pytest.approx(
        0.5, rel=0.15
    )
    assert 0.5 < found["force_scale"][17] < 2 and found["energy_scale"] == pytest.approx(3, rel=0.35)
    after = wrapped(graphs[0])
    wanted = raw["force_sigma"] * torch.tensor([found["force_scale"][int(z)] for z in graphs[0][keys.ATOMIC_NUMBERS]])
    torch.testing.assert_close(after["force_sigma"], wanted)
    torch.testing.assert_close(after["energy_sigma"], raw["energy_sigma"] * found["energy_scale"])
    # of the raw sigma again
    assert uncertainty.calibrate(wrapped, graphs)["force_scale"] == pytest.approx(found["force_scale"])


def test_the_scale_of_energies_is_that_of_normal_errors_however_few_draws_estimate_the_forces():
    potential, rng = small(0), np.random.default_rng(0)
    graphs, found = labelled(potential, n=30, seed=3), []
    wrapped = [uncertainty.last_layer(potential, labelled(potential), n_draws=n) for n in (1, N_LAST)]
    for graph in graphs:
        results = wrapped[0](graph)
        graph[keys.REF_ENERGY] = results["energy"] + results["energy_sigma"] * rng.standard_t(3)  # now and then far off
        found.append(float((graph[keys.REF_ENERGY] - results["energy"]) / results["energy_sigma"]))
    for one in wrapped:
        assert uncertainty.calibrate(one, graphs)["energy_scale"] == pytest.approx(np.sqrt(np.mean(np.square(found))))
