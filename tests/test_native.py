"""The native kernel: the model's own numbers, forces that are derivatives, and no harm where it cannot be built."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from mlip import compiled, keys, load_calculator
from mlip.commands.sample import load, load_with_uncertainty
from mlip.compiled import NoCompilerError
from mlip.config import CONFIGS, compose, make
from mlip.data.graph import collate, to_graph
from mlip.electrostatics import pme
from mlip.errors import InputError
from mlip.export import Deployed, arguments, export
from mlip.md.ensemble import NPT
from mlip.md.run import run
from mlip.md.summary import read_thermo
from mlip.models.last_layer import LastLayer
from mlip.native import choice, model
from mlip.native.beside import Beside
from mlip.native.build import library
from mlip.native.model import NativeModel
from mlip.native.weights import Unsupported, beside, weights_of

needs_compiler = pytest.mark.skipif(
    shutil.which((os.environ.get("CXX") or "g++").split()[0]) is None, reason="needs a C++ compiler: g++ or $CXX"
)
LONE = 20.0 * (1 - 0.95 * 2.25 / 3.6) ** 4 / (1.1 - 0.95 * 2.25 / 3.6) ** 2  # eV, of the cohesion of the wall, of Cl
CUTOFF = 5.0  # Å, of every network of the configs
TINY = {"n_channels": 6, "l_max": 1, "n_layers": 1, "n_basis": 3, "n_species": 2}
ODD = {"n_channels": 20, "l_max": 1, "n_layers": 3, "n_basis": 5, "n_species": 3}


def potential(preset: str = "small", head: str | None = None, charge_energies: list[float] | None = None, **network):
    """Random weights; limits of the data that dense structures cross."""
    torch.manual_seed(1)
    words = [f"model.network.{key}={value}" for key, value in network.items()]
    words += [f"model/head={head}"] if head else []
    cfg = compose("train", [f"model={preset}", "data.files=none.xyz", *words], [CONFIGS])
    statistics = {
        "elements": [3, 8, 17], "levels": ["default"], "atomic_energies": [[-1.5, -430.25, -20.125]], "mean_neighbours": 20.0,
        "force_rms": 0.7, "shortest_distances": [[2.4, 1.7, 2.1], [1.7, 2.3, None], [2.1, None, 2.9]],
        "largest_crowding": [4.0, 4.0, 5.0], "least_crowding": [5.0, 5.0, 6.0], "charge_energies": charge_energies,
    }  # fmt: skip
    return make(cfg.model)(statistics=statistics).eval()


def rocksalt() -> Atoms:
    """72 ions of LiCl with some oxygen, off their places: more than one block of atoms, and a part of one."""
    atoms = bulk("LiCl", "rocksalt", a=5.1).repeat((6, 3, 2))
    atoms.numbers[[5, 11]] = 8
    atoms.rattle(0.1, seed=0)
    return atoms


def structures() -> dict[str, Atoms]:
    slab = rocksalt()
    slab.pbc = (True, True, False)
    slab.cell[2] = 0.0
    squeezed = rocksalt()
    squeezed.set_cell(0.75 * squeezed.cell.array, scale_atoms=True)
    return {
        "lone atom": Atoms("Li"),
        "pair": Atoms("LiO", [[0, 0, 0], [1.9, 0.3, -0.2]]),
        "close pair": Atoms("OCl", [[0, 0, 0], [0.5, 0.4, 0.2]]),
        "crystal": rocksalt(),
        "slab": slab,
        "squeezed": squeezed,
        "many images": Atoms("LiO", [[0, 0, 0], [1.2, 1.3, 1.4]], cell=[[2.6, 0, 0], [0.3, 2.7, 0], [0, 0.4, 2.8]], pbc=True),
    }  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("preset, network", [("small", {}), ("medium", {}), ("large", {}), ("small", ODD)])
def test_results_are_those_of_the_model_in_double_precision(preset, network):
    live = potential(preset, **network)
    native = NativeModel(weights_of(Deployed(live, 0)))
    live.double()
    for name, atoms in structures().items():
        graph = to_graph(atoms, CUTOFF)
        expected, found = live(graph), native(*arguments(graph))
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            assert found[key].shape == value.shape
            # float32 of the network: rounding of the largest number
            limit = {keys.FORCES: 5e-6, keys.STRESS: 1e-6}.get(key, 2e-6) * max(1.0, float(value.abs().max()) / 10)
            if key == keys.ENERGY:
                limit *= len(atoms)
            np.testing.assert_allclose(found[key], value, rtol=0, atol=limit, err_msg=f"{name}: {key}")
    alone = native(*arguments(to_graph(Atoms("Cl"), CUTOFF)))
    assert float(alone[keys.ENERGY]) == pytest.approx(-20.125 + LONE, abs=1e-12)  # and the cohesion of the wall


@needs_compiler
def test_the_total_charge_has_its_energy():
    live = potential(charge_energies=[4.7], **TINY)
    native = NativeModel(weights_of(torch.jit.script(Deployed(live, 0))))
    graph = collate([to_graph(atoms, CUTOFF) for atoms in structures().values()])
    neutral = native(*arguments(graph))
    graph[keys.TOTAL_CHARGE] = torch.arange(len(neutral[keys.ENERGY]), dtype=torch.float64)
    expected, found = live(graph), native(*arguments(graph))
    np.testing.assert_allclose(found[keys.ENERGIES], expected[keys.ENERGIES], rtol=1e-6, atol=1e-5)
    change = found[keys.ENERGY] - neutral[keys.ENERGY]
    np.testing.assert_allclose(change, 4.7 * graph[keys.TOTAL_CHARGE], rtol=0, atol=1e-9)


@needs_compiler
def test_systems_of_a_batch_do_not_see_each_other():
    native = NativeModel(weights_of(Deployed(potential(**TINY), 0)))
    graphs = [to_graph(atoms, CUTOFF) for atoms in structures().values()]
    together = native(*arguments(collate(graphs)))
    apart = [native(*arguments(graph)) for graph in graphs]
    for key, value in together.items():
        np.testing.assert_allclose(value, torch.cat([one[key] for one in apart]), rtol=1e-6, atol=1e-6)


def with_charges(head: str, **network) -> tuple[torch.nn.Module, NativeModel]:
    """A potential whose charges depend on the features, and the kernel with its term beside."""
    live = potential(head=head, **network)
    for name, weight in live.terms.named_parameters():
        if "electronegativity.last" in name or "transfer" in name:
            torch.nn.init.normal_(
                weight, std=0.1 if "transfer" in name else 1.0
            )  # charges of a tenth of an e in a bond
    live.requires_grad_(False)
    deployed = Deployed(live, 0)
    return live, NativeModel(weights_of(deployed), Beside(live.limits, beside(deployed)))


@needs_compiler
@pytest.mark.parametrize("head", ["formal_charges", "qeq", "split_charges", "bond_charges", "atomic_charges"])
def test_charges_stand_beside_the_kernel(head):
    live, native = with_charges(head, **ODD)
    for name in ("crystal", "pair"):
        graph = to_graph(structures()[name], CUTOFF)
        if head == "qeq":
            graph[keys.TOTAL_CHARGE] = torch.tensor([1.0], dtype=torch.float64)
        expected, found = live(graph), native(*arguments(graph))
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-6, atol=1e-5, err_msg=f"{name}: {key}")
    assert float(found[keys.CHARGES].abs().max()) > 0.02


@needs_compiler
@pytest.mark.parametrize("head", ["formal_charges", "qeq"])
def test_charges_of_many_atoms_are_summed_by_compiled_functions(head, monkeypatch):
    live, _ = with_charges(head, **TINY)
    charges = live.terms[-1]
    charges.mesh_above = 50
    if head == "qeq":
        charges.width.table.weight.data = torch.tensor([[-0.5], [0.0], [0.4]])
    scripted = torch.jit.script(Deployed(live, 0))
    native = NativeModel(weights_of(scripted), Beside(scripted.potential.limits, beside(scripted)))
    seen, search = [], pme.half_pairs
    monkeypatch.setattr(pme, "half_pairs", lambda *given: seen.append(len(given[3])) or search(*given))
    graph = arguments(to_graph(rocksalt(), CUTOFF))
    expected, found = scripted(*graph), native(*graph)
    assert seen == ([72] if head == "qeq" else [])
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-6, atol=1e-5, err_msg=key)


@needs_compiler
@pytest.mark.parametrize("head", [None, "qeq"])
def test_a_large_system_needs_no_arrays_of_its_edges(head, monkeypatch):
    if head is None:
        native = NativeModel(weights_of(Deployed(potential(**ODD), 0)))
    else:
        _, native = with_charges(head, **ODD)
    squeezed = structures()["squeezed"]
    for atoms in (rocksalt(), squeezed):
        graph = arguments(to_graph(atoms, CUTOFF))
        kept = native(*graph)
        monkeypatch.setattr(model, "LEAN_ABOVE" if head is None else "LEAN_BESIDE", 10)
        for key, value in native(*graph).items():
            scale = max(1.0, float(value.abs().max()))
            np.testing.assert_allclose(value, kept[key], rtol=0, atol=1e-6 * scale, err_msg=key)
        monkeypatch.undo()


@needs_compiler
@pytest.mark.parametrize("lean_above", [0, 10**6])
def test_numbers_do_not_depend_on_threads(lean_above, monkeypatch):
    monkeypatch.setattr(model, "LEAN_ABOVE", lean_above)
    native = NativeModel(weights_of(Deployed(potential(**TINY), 0)))
    graph = arguments(to_graph(rocksalt().repeat((2, 2, 1)), CUTOFF))
    kept = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = native(*graph)
        torch.set_num_threads(3)
        three, again = native(*graph), native(*graph)
    finally:
        torch.set_num_threads(kept)
    for key, value in one.items():
        np.testing.assert_allclose(three[key], value, rtol=1e-6, atol=1e-6)
        assert torch.equal(three[key], again[key])


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    export(potential(**TINY), path, {}, [to_graph(rocksalt(), CUTOFF)])
    return path


@needs_compiler
def test_forces_and_stress_are_derivatives_of_the_energy(model_file):
    for name in ("many images", "crystal"):
        atoms = structures()[name][:20]
        atoms.calc = load_calculator(model_file, kernel="native")
        chosen = [0, len(atoms) - 1]
        forces = calculate_numerical_forces(atoms, eps=3e-3, iatoms=chosen)
        np.testing.assert_allclose(atoms.get_forces()[chosen], forces, atol=3e-4 * max(1.0, np.abs(forces).max()))
        stress = calculate_numerical_stress(atoms, eps=1e-3)
        np.testing.assert_allclose(atoms.get_stress(), stress, atol=2e-4 * max(1.0, np.abs(stress).max()))
        assert atoms.calc.kernel.startswith("native")


@needs_compiler
def test_dynamics_at_constant_pressure_goes_where_the_model_goes(model_file, tmp_path):
    ends = {}
    for kernel in ("native", "torchscript"):
        atoms, folder = rocksalt(), tmp_path / kernel
        summary = run(atoms, load_calculator(model_file, kernel=kernel), folder, NPT(300, 2.0), 20, 0.1, progress=False)
        assert summary["kernel"].startswith("native") == (kernel == "native")
        ends[kernel] = read_thermo(folder)
    for column in ("pressure_GPa", "volume_A3", "potential_energy_eV"):
        np.testing.assert_allclose(ends["native"][column], ends["torchscript"][column], rtol=1e-5, atol=1e-4)


@needs_compiler
def test_sampling_runs_its_dynamics_natively_and_its_uncertainties_in_torch(model_file, tmp_path):
    shutil.copytree(model_file.parent, tmp_path / "member0")
    live = potential(**TINY)
    n_last = live.network.n_features + live.terms[live.term_names.index("network")].hidden.weight.shape[0]
    export(LastLayer(live, torch.eye(n_last), 2), tmp_path / "model.pt", {}, [to_graph(rocksalt(), CUTOFF)])
    assert load(tmp_path, "cpu").kernel.startswith("native")
    assert load_with_uncertainty(tmp_path, "cpu").kernel == "TorchScript (LastLayer has no native kernel)"


def energy(path: Path, **settings) -> tuple[float, str]:
    """Energy of the crystal, and what computed it."""
    atoms = rocksalt()
    atoms.calc = load_calculator(path, **settings)
    return atoms.get_potential_energy(), atoms.calc.kernel


def test_without_a_compiler_the_model_itself_runs_and_says_so(model_file, monkeypatch, capsys):
    expected = energy(model_file, kernel="torchscript")
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = energy(model_file)
    assert found[0] == expected[0]
    sentence = "no C++ compiler no-such-compiler: install g++ or set CXX"
    assert found[1] == f"TorchScript ({sentence})"
    assert capsys.readouterr().err == f"mlip: no native kernel, TorchScript runs: {sentence}\n"
    with pytest.raises(InputError, match="kernel=native: no C.. compiler no-such-compiler"):
        energy(model_file, kernel="native")
    with pytest.raises(InputError, match="kernel=fast: must be one of auto, native, torchscript"):
        energy(model_file, kernel="fast")


@needs_compiler
def test_a_compiler_that_fails_is_left_aside_in_one_line(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compiled, "CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "FLAGS", ("-std=c++nonsense",))
    assert energy(model_file)[1].startswith("TorchScript (")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "does not compile the native kernel" in lines[1]


@needs_compiler
def test_a_kernel_that_differs_on_the_first_structure_is_left_aside(model_file, monkeypatch, capsys):
    expected = energy(model_file, kernel="torchscript")[0]
    right = NativeModel.forward

    def wrong(self, *inputs):
        return {name: value * 1.01 for name, value in right(self, *inputs).items()}

    monkeypatch.setattr(NativeModel, "forward", wrong)
    found, kernel = energy(model_file)
    assert found == expected
    assert kernel == "TorchScript (the native kernel differs from it)"
    assert "mlip: the native kernel differs from the model (energy by" in capsys.readouterr().err


@needs_compiler
@pytest.mark.parametrize("right", [True, False])
def test_a_large_structure_is_checked_on_a_piece(model_file, monkeypatch, right):
    calculator = load_calculator(model_file)
    seen, run = [], calculator.model.exported.forward
    monkeypatch.setattr(choice, "PIECE", 40)
    monkeypatch.setattr(
        calculator.model.exported, "forward", lambda *inputs: seen.append(len(inputs[0])) or run(*inputs)
    )
    if not right:
        compute = calculator.model.native.forward
        wrong = lambda *inputs: {key: 1.01 * value for key, value in compute(*inputs).items()}
        monkeypatch.setattr(calculator.model.native, "forward", wrong)
    atoms = rocksalt().repeat((2, 2, 2))
    atoms.calc = calculator
    forces = atoms.get_forces()
    assert 40 <= seen[0] < len(atoms) / 2
    assert seen[1:] == ([] if right else [len(atoms)])
    assert calculator.kernel.startswith("native" if right else "TorchScript")
    atoms.calc = load_calculator(model_file, kernel="torchscript")
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-5)


@needs_compiler
def test_a_nan_differs():
    expected = {keys.ENERGY: torch.zeros(1), keys.FORCES: torch.zeros(2, 3)}
    assert choice.difference(expected, expected) is None
    assert choice.difference(expected, expected | {keys.FORCES: torch.full((2, 3), torch.nan)}) == "forces by nan"


@needs_compiler
def test_a_damaged_library_is_built_again(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "CACHE", str(tmp_path))
    sizes = weights_of(Deployed(potential(**TINY), 0)).sizes
    library(sizes)
    (path,) = tmp_path.glob("*.so")
    whole = path.read_bytes()
    path.unlink()  # not written into: it is open
    path.write_bytes(whole[: len(whole) // 2])
    library(sizes)
    assert path.read_bytes() == whole
    path.with_suffix(".sha256").write_text("")
    library(sizes)
    assert compiled.is_whole(path)


@needs_compiler
def test_of_two_processes_one_compiles(tmp_path):
    log, compiler = tmp_path / "log", tmp_path / "compiler"
    real = shutil.which((os.environ.get("CXX") or "g++").split()[0])
    compiler.write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo compiled >> {log}\nexec {real} "$@"\n')
    compiler.chmod(0o755)
    code = (
        "from mlip import compiled\n"
        "from mlip.native.build import library\n"
        f"compiled.CACHE = {str(tmp_path / 'cache')!r}\n"
        "print(library(dict(CHANNELS=16, DEGREE=1, LAYERS=1, BASIS=3, SPECIES=2, HIDDEN=16)).mlip_create is not None)"
    )
    environment = os.environ | {"CXX": str(compiler), "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    answers = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0], answers
    assert [out for out, _ in answers] == [b"True\n"] * 2
    assert log.read_text() == "compiled\n"


def test_what_the_kernel_does_not_compute_is_named():
    with pytest.raises(Unsupported, match="float32"):
        weights_of(Deployed(potential(**TINY).double(), 0))
    with pytest.raises(Unsupported, match="EquilibratedCharges with dipoles reads vectors"):
        weights_of(Deployed(potential("qeq_dipoles", **TINY), 0))
    with pytest.raises(Unsupported, match="degrees up to 4"):
        weights_of(Deployed(potential(**TINY | {"l_max": 5}), 0))
    bare = potential(**TINY)
    bare.terms = torch.nn.ModuleList(list(bare.terms)[:1])
    with pytest.raises(Unsupported, match="the energy of the network"):
        weights_of(Deployed(bare, 0))


def test_no_compiler_is_an_error_of_ours(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NoCompilerError, match="install g"):
        library({})
