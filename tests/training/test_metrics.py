"""Errors summed over batches are those of all structures at once."""

import numpy as np
import pytest
import torch

from mlip import keys
from mlip.training.metrics import Errors, Pairs

torch_rng = torch.Generator().manual_seed(3)


def batch(sizes, n_types=2):
    n, atoms = len(sizes), sum(sizes)
    random = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=torch_rng)
    graph = {
        keys.ATOMIC_NUMBERS: torch.randint(0, 2, (atoms,), generator=torch_rng) * 6 + 3,
        keys.BATCH: torch.repeat_interleave(torch.arange(n), torch.tensor(sizes)),
        keys.CELL: torch.zeros(n, 3, 3),
        keys.CONFIG_TYPE: torch.randint(0, n_types, (n,), generator=torch_rng),
        keys.REF_ENERGY: random(n), keys.REF_FORCES: random(atoms, 3), keys.REF_STRESS: random(n, 3, 3),
    }  # fmt: skip
    return {"energy": random(n), "forces": random(atoms, 3), "stress": random(n, 3, 3)}, graph


def test_errors_are_exact_across_batches():
    batches = [batch([2, 3]), batch([4]), batch([1, 1, 5])]
    batches[1][1][keys.REF_FORCES][2] = torch.nan
    batches[2][1][keys.REF_ENERGY][0] = torch.nan
    errors = Errors(["a", "b"])
    for results, graph in batches:
        errors.update(results, graph)
    joined = lambda key, side: torch.cat([pair[side][key] for pair in batches]).numpy()
    n_atoms = np.array([2, 3, 4, 1, 1, 5])
    energy = (joined("energy", 0) - joined(keys.REF_ENERGY, 1)) / n_atoms
    force = joined("forces", 0) - joined(keys.REF_FORCES, 1)
    stress = joined("stress", 0) - joined(keys.REF_STRESS, 1)
    types, numbers = joined(keys.CONFIG_TYPE, 1), joined(keys.ATOMIC_NUMBERS, 1)
    found = errors.compute()

    def check(table, name, values, unit):
        assert table[f"{name}_rmse_{unit}"] == pytest.approx(np.sqrt(np.nanmean(values**2)), rel=1e-12)
        assert table[f"{name}_mae_{unit}"] == pytest.approx(np.nanmean(abs(values)), rel=1e-12)

    check(found["total"], "energy", 1e3 * energy, "meV_per_atom")
    check(found["total"], "force", 1e3 * force, "meV_per_A")
    check(found["total"], "stress", 160.21766339999996 * stress, "GPa")
    check(found["by_element"]["F"], "force", 1e3 * force[numbers == 9], "meV_per_A")
    check(found["by_element"]["Li"], "force", 1e3 * force[numbers == 3], "meV_per_A")
    check(found["by_config_type"]["b"], "energy", 1e3 * energy[types == 1], "meV_per_atom")
    check(found["by_config_type"]["a"], "force", 1e3 * force[np.repeat(types, n_atoms) == 0], "meV_per_A")
    assert set(found["by_element"]) == {"Li", "F"}


def test_float32_errors_are_added_in_float64():
    results, graph = batch([200] * 40)
    results = {name: value.float() for name, value in results.items()}
    errors = Errors()
    for _ in range(3):
        errors.update(results, graph | {keys.CONFIG_TYPE: torch.zeros(40, dtype=torch.int64)})
    expected = 1e3 * (results["forces"].double() - graph[keys.REF_FORCES]).square().mean().sqrt()
    assert errors.total()["force_rmse_meV_per_A"] == pytest.approx(expected.item(), rel=1e-14)


def test_quantities_without_labels_are_absent_and_unknown_config_types_are_kept_apart():
    results, graph = batch([2, 2])
    graph[keys.REF_STRESS][:] = torch.nan
    graph[keys.CONFIG_TYPE][:] = -1
    errors = Errors(["a", "b"])
    errors.update(results, graph)
    assert not [name for name in errors.total() if "stress" in name or "charge" in name]
    assert set(errors.compute()["by_config_type"]) == {"other"}


def test_charges_are_compared_up_to_one_global_sign():
    results, graph = batch([2, 2])
    graph[keys.REF_CHARGES] = torch.tensor([1.0, -1.0, 0.8, torch.nan], dtype=torch.float64)
    errors = Errors(["a", "b"])
    errors.update(results | {"charges": torch.tensor([-1.1, 1.0, -0.8, 3.0], dtype=torch.float64)}, graph)
    assert errors.total()["charge_rmse_e"] == pytest.approx((0.01 / 3) ** 0.5)


def test_pairs_leave_out_missing_labels():
    results, graph = batch([2, 3])
    graph[keys.REF_FORCES][0] = torch.nan
    pairs = Pairs()
    pairs.update(results, graph)
    arrays = pairs.arrays()
    assert arrays["force"].shape == (12, 2)
    np.testing.assert_allclose(arrays["energy"][:, 1], results["energy"].numpy() / [2, 3])
