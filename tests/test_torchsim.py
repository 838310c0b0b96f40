"""torch-sim: many systems in one call are what each would be alone."""

import warnings
from pathlib import Path

import contract
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from morse import morse_potential

from mlip import keys, load_calculator
from mlip.data.graph import to_graph
from mlip.export import export

ts = pytest.importorskip("torch_sim", reason="torch-sim is not installed: pip install mlip-electrolytes[torch-sim]")

from torch_sim.models.interface import validate_model_outputs  # noqa: E402

from mlip.torchsim import MlipModel  # noqa: E402

CPU = torch.device("cpu")
CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(scope="module")
def short_range(tmp_path_factory):
    """Morse pairs of the elements in torch-sim's own validation, and of lithium."""
    path = tmp_path_factory.mktemp("model") / "model.pt"
    potential = morse_potential((1, 3, 6, 12, 14, 26))
    export(potential, path, {}, [to_graph(bulk("Si"), 4.0)])
    return path


@pytest.fixture(scope="module")
def equilibrated(tmp_path_factory):
    """Charges that flow, without a network."""
    path = tmp_path_factory.mktemp("model") / "model.pt"
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = compose("train", ["model/network=none", "model/head=qeq"]).model
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):  # weights of no features
        potential = instantiate(config)(statistics=contract.STATISTICS).double().eval()
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    graph = to_graph(contract.crystal(), potential.cutoff, potential.levels)
    export(potential, path, {}, [graph], level="pbe")
    return path


def lithium(n: int, seed: int) -> Atoms:
    atoms = bulk("Li", a=3.5, cubic=True).repeat((n, 2, 2))
    atoms.rattle(0.08, seed=seed)
    return atoms


def test_the_model_keeps_torch_sims_own_contract(short_range):
    validate_model_outputs(MlipModel(short_range), CPU, torch.float64)
    validate_model_outputs(MlipModel(short_range, dtype="float32"), CPU, torch.float32)


def test_results_are_those_of_the_calculator(equilibrated):
    systems = [contract.crystal(), contract.crystal(6, seed=3), contract.crystal(7, 6.0, seed=5)]
    results = MlipModel(equilibrated)(ts.io.atoms_to_state(systems, CPU, torch.float64))
    first = 0
    for number, atoms in enumerate(systems):
        calculator, rows = load_calculator(equilibrated), slice(first, first + len(atoms))
        assert results["energy"][number].item() == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-9)
        np.testing.assert_allclose(results["forces"][rows], calculator.get_forces(atoms), atol=1e-8)
        stress = results["stress"][number].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        np.testing.assert_allclose(stress, calculator.get_stress(atoms), atol=1e-9)
        np.testing.assert_allclose(results["charges"][rows], calculator.get_charges(atoms), atol=1e-7)
        first += len(atoms)


def test_an_isolated_molecule_has_no_box(short_range):
    molecule = Atoms("Li2", positions=[[0, 0, 0], [2.2, 0, 0]])
    results = MlipModel(short_range)(ts.io.atoms_to_state([molecule], CPU, torch.float64))
    assert results["energy"].item() == pytest.approx(load_calculator(short_range).get_potential_energy(molecule))


def test_the_total_charge_of_a_system_reaches_the_model(equilibrated):
    state = ts.io.atoms_to_state([contract.crystal(), contract.crystal(6)], CPU, torch.float64)
    state.total_charge = torch.tensor([1.0, 0.0])
    charges = MlipModel(equilibrated)(state)["charges"]
    assert charges[:8].sum().item() == pytest.approx(1.0) and charges[8:].sum().item() == pytest.approx(0.0)


def test_an_unknown_element_is_named(short_range):
    state = ts.io.atoms_to_state([bulk("Si"), bulk("Na", "bcc", a=4.2)], CPU, torch.float64)
    with pytest.raises(ValueError, match="no parameters for Na, only for H, Li, C, Mg, Si, Fe"):
        MlipModel(short_range)(state)


def start_momenta(atoms: Atoms) -> torch.Tensor:
    """Momenta at 300 K that belong to the system, not to the batch."""
    generator = torch.Generator().manual_seed(len(atoms))
    masses = torch.as_tensor(atoms.get_masses())
    return torch.randn(len(atoms), 3, generator=generator, dtype=torch.float64) * (0.026 * masses).sqrt()[:, None]


def nvt(model: MlipModel, systems: list[Atoms], steps: int = 15):
    """The state after some steps of 2 fs at 300 K; noise and thermostats are those of the single systems."""
    state = ts.io.atoms_to_state(systems, CPU, torch.float64)
    kT, dt = torch.tensor(0.026, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    momenta = torch.cat([start_momenta(atoms) for atoms in systems])
    if hasattr(ts, "nvt_nose_hoover_init"):  # from 0.4 on every system has its own chain
        state = ts.nvt_nose_hoover_init(state, model, kT=kT, dt=dt, momenta=momenta)
        for _ in range(steps):
            state = ts.nvt_nose_hoover_step(state, model, dt=dt, kT=kT)
        return state
    generators = [torch.Generator().manual_seed(len(atoms)) for atoms in systems]

    def noise(like, **kwargs):
        draws = zip(generators, systems, strict=True)
        return torch.cat([torch.randn(len(atoms), 3, generator=each, dtype=like.dtype) for each, atoms in draws])

    start, step = ts.nvt_langevin(model=model, dt=dt, kT=kT)
    state.momenta = momenta
    state = start(state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", noise)
        for _ in range(steps):
            state = step(state)
    return state


def test_batched_dynamics_is_that_of_separate_runs(short_range):
    systems = [lithium(1, seed=0), lithium(2, seed=1), lithium(3, seed=2)]
    together = nvt(MlipModel(short_range), systems)
    first = 0
    for atoms in systems:
        alone, rows = nvt(MlipModel(short_range), [atoms]), slice(first, first + len(atoms))
        assert (alone.positions - torch.as_tensor(atoms.positions)).abs().max() > 0.1
        torch.testing.assert_close(together.positions[rows], alone.positions, rtol=0, atol=1e-9)
        torch.testing.assert_close(together.momenta[rows], alone.momenta, rtol=0, atol=1e-8)
        first += len(atoms)


def test_each_system_starts_from_its_own_last_charges(equilibrated):
    """Guesses follow their system through batches of other sizes, and change no result."""
    model = MlipModel(equilibrated)
    given = []
    evaluate = model.replicas.calculator.evaluate
    model.replicas.calculator.evaluate = lambda graph: given.append(graph.get(keys.GUESS)) or evaluate(graph)
    first, second = contract.crystal(), contract.crystal(6, seed=3)
    for _ in range(4):
        results = model(ts.io.atoms_to_state([first, second], CPU, torch.float64))
        fresh = MlipModel(equilibrated)(ts.io.atoms_to_state([first, second], CPU, torch.float64))
        torch.testing.assert_close(results["forces"], fresh["forces"], rtol=0, atol=1e-6)
        charges = results["charges"]
        first.positions[0] += 0.01
        second.positions[1] -= 0.01
    assert given[0] is None
    for guess, near in zip(given[1:], (0.2, 0.05, 0.05), strict=True):
        assert guess.shape == (14, 1) and (guess[:, 0] - charges).abs().max() < near * charges.abs().max()
    model(ts.io.atoms_to_state([second], CPU, torch.float64))  # the first has left: another system at its place
    assert given[-1] is None
    again = ts.io.atoms_to_state([second, first], CPU, torch.float64)
    model(again)
    assert given[-1][:6].abs().min() > 0 and given[-1][6:].abs().max() == 0
    model(again)  # a repeated state adds nothing to the history
    assert [len(replica.relaxed) for replica in model.replicas.replicas] == [1, 1]
