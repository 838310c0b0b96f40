"""Weight average, schedules, budget and optimizer: small things with a formula."""

import math

import pytest
import torch
import yaml
from hydra.utils import instantiate
from torch import nn

from mlip.config import CONFIGS, compose
from mlip.training import schedule as schedule_file
from mlip.training.ema import WeightAverage
from mlip.training.optimizer import adamw
from mlip.training.schedule import Budget, Plateau, WarmupCosine


def test_average_follows_its_formula_and_its_warm_up():
    network = nn.Linear(2, 1).double()
    average = WeightAverage(network, decay=0.3)
    expected = network.weight.detach().clone()
    for t in range(6):
        with torch.no_grad():
            network.weight += 1.0
        average.update(network)
        decay = min(0.3, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * network.weight.detach()
    torch.testing.assert_close(average.potential.weight, expected, rtol=1e-14, atol=0)
    assert not average.potential.weight.requires_grad
    again = WeightAverage(nn.Linear(2, 1).double(), decay=0.3)
    again.load_state_dict(average.state_dict())
    assert again.updates == 6


def test_average_stays_in_evaluation_mode():
    average = WeightAverage(nn.Linear(1, 1), 0.9).train()
    assert not average.potential.training


def test_cosine_starts_at_zero_peaks_after_the_warm_up_and_ends_at_its_last_factor():
    cosine = WarmupCosine(warmup=0.1, final=0.02)
    assert cosine.factor(0.0) == 0
    assert cosine.factor(0.05) == pytest.approx(0.5)
    assert cosine.factor(0.1) == pytest.approx(1.0)
    assert cosine.factor(0.55) == pytest.approx(0.51)
    assert cosine.factor(1.0) == pytest.approx(0.02)
    assert WarmupCosine(warmup=0.0, final=0.0).factor(0.0) == 1


def test_plateau_lowers_the_rate_after_its_patience_and_not_below_its_floor():
    plateau = Plateau(warmup=0.1, decay=0.5, patience=1, threshold=0.01, final=0.2)
    assert plateau.factor(0.05) == pytest.approx(0.5)
    factors = []
    for loss in [1.0, 0.9, 0.899, 0.899, 0.899, 0.899, 0.899, 0.899, math.nan, math.nan]:
        plateau.observe(loss)
        factors.append(plateau.factor(0.5))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    again = Plateau(warmup=0.1, decay=0.5, patience=1, threshold=0.01, final=0.2)
    again.load_state_dict(plateau.state_dict())
    assert again.factor(0.5) == 0.2


def test_progress_is_the_largest_used_fraction(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(schedule_file.time, "process_time", lambda: clock[0])
    budget = Budget(max_steps=100, max_epochs=10, max_seconds=60)
    budget.steps, budget.epochs = 10, 0.5
    assert budget.progress == pytest.approx(0.1)
    clock[0] += 30
    assert budget.progress == pytest.approx(0.5)
    later = Budget(max_seconds=60)
    later.load_state_dict(budget.state_dict())  # a resumed run has used 30 s already
    clock[0] += 15
    assert later.progress == pytest.approx(0.75)
    clock[0] += 100
    assert later.progress == 1
    with pytest.raises(ValueError, match="max_steps, max_epochs or max_seconds"):
        Budget()


def test_matrices_decay_and_biases_gains_and_embeddings_do_not():
    network = nn.ModuleDict({"linear": nn.Linear(2, 2), "norm": nn.LayerNorm(2), "table": nn.Embedding(3, 2)})
    network["species_embedding"] = nn.Linear(2, 2, bias=False)
    decays, plain = adamw(network, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.99)).param_groups
    assert [id(p) for p in decays["params"]] == [id(network["linear"].weight)]
    assert decays["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0
    assert len(plain["params"]) == 5


@pytest.mark.parametrize(
    "name", ["loss/huber", "loss/mse", "scheduler/cosine", "scheduler/plateau", "optimizer/adamw", "trainer/default"]
)
def test_every_shipped_config_builds_its_object(name, request):
    config = yaml.safe_load((request.config.rootpath / "configs" / f"{name}.yaml").read_text())
    assert callable(instantiate(config, _convert_="all")) or name.startswith("scheduler")


def test_the_loss_for_surfaces_is_the_usual_one_with_more_weight_on_energies():
    usual, surfaces = (compose("train", [f"loss={name}"], [CONFIGS]).loss for name in ("huber", "surfaces"))
    assert all(more > weight for more, weight in zip(surfaces.weights.energy, usual.weights.energy, strict=True))
    surfaces.weights.energy = usual.weights.energy
    assert surfaces == usual
