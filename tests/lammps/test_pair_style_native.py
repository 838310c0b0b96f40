"""The native kernel in LAMMPS: the model's numbers to float32 rounding on any number of processes, and TorchScript where it cannot be.

Skipped without LAMMPS, MPI or a compiler.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io.lammpsdata import read_lammps_data
from lammps_run import assert_equal, by_ase, in_lammps, needs_lammps, run
from small import crystal, potential_of

from mlip.data.graph import to_graph
from mlip.electrostatics import BondCharges, EquilibratedCharges, FormalCharges
from mlip.export import export
from mlip.lammps import inputs
from mlip.lammps.kernel import kernel_name, write_kernel
from mlip.lammps.plugin import kernel_folder

pytestmark = needs_lammps
HEADS = {
    "short": None,
    "formal": partial(FormalCharges, tolerance=1e-8),
    "bond_charges": partial(BondCharges, tolerance=1e-8),
    "qeq": partial(EquilibratedCharges, tolerance=1e-8),
}
ROUNDING = 2e-5  # eV, eV/Å: float32


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Path of the exported file of a head, in float32, of three layers, with its kernel."""

    def of(head: str) -> Path:
        path = folder / f"{head}.pt"
        if not path.exists():
            potential = potential_of(HEADS[head], n_layers=3, born_mayer=None)
            graphs = [to_graph(crystal(), potential.cutoff, potential.levels)]
            export(potential, path, {}, graphs, level="pbe", dtype=torch.float32)
            write_kernel(path)
        return path

    folder = tmp_path_factory.mktemp("models")
    return of


@pytest.mark.parametrize("n", [1, 2, 4])
def test_short_range(plugin, model, tmp_path, n):
    atoms = crystal(repeat=(3, 2, 2))
    found = in_lammps(plugin, model("short"), atoms, tmp_path, n, words="native")
    assert "mlip: native kernel" in found["out"]
    assert_equal(found, by_ase(model("short"), atoms), ROUNDING)


def test_limits_and_walls_where_the_data_end(plugin, model, tmp_path):
    atoms = crystal(3.6, repeat=(3, 2, 2))
    expected = by_ase(model("short"), atoms)
    scale = np.abs(expected.get_forces()).max()
    assert scale > 30
    assert_equal(in_lammps(plugin, model("short"), atoms, tmp_path, 2), expected, ROUNDING * scale)


@pytest.mark.parametrize("head, tolerance", [("short", ROUNDING), ("qeq", ROUNDING), ("bond_charges", 5e-5)])
def test_a_process_without_atoms_and_one_without_neighbours(plugin, model, tmp_path, head, tolerance):
    """A quarter of the box is full, then comes nothing, then a lone ion."""
    atoms = crystal()
    atoms.set_cell(atoms.cell.array * [[1], [1], [5]])
    atoms.append("Li")
    atoms.positions[-1] = atoms.cell[2] * 0.85
    atoms.positions -= atoms.positions.min(0) * [0, 0, 1]
    found = in_lammps(plugin, model(head), atoms, tmp_path, 3, before="processors 1 1 3", words="native")
    assert re.search(r"Nlocal: .* 0 min", found["out"])
    assert_equal(found, by_ase(model(head), atoms), tolerance, per_atom=head != "bond_charges")


@pytest.mark.parametrize("n, solved", [(1, False), (2, False), (4, False), (2, True)])
def test_charge_that_bonds_transfer(plugin, model, tmp_path, n, solved):
    """Features by the kernel, bonds by the model's file, charges by kspace or by every process."""
    atoms = crystal(repeat=(2, 2, 1))
    found = in_lammps(plugin, model("bond_charges"), atoms, tmp_path, n, words="native", solved=solved)
    assert ("pppm" in (tmp_path / "in.mlip").read_text()) != solved
    assert_equal(found, by_ase(model("bond_charges"), atoms), 5e-5, per_atom=solved)
    formal = np.select([atoms.numbers == 3, atoms.numbers == 8], [1.0, -2.0], -1.0)
    assert np.abs(found["charges"] - formal).max() > 0.01


def test_fixed_charges_in_the_reciprocal_part_of_lammps(plugin, model, tmp_path):
    atoms = crystal(repeat=(2, 2, 1))
    found = in_lammps(plugin, model("formal"), atoms, tmp_path, 2)
    assert "pppm" in (tmp_path / "in.mlip").read_text() and "mlip: native kernel" in found["out"]
    assert_equal(found, by_ase(model("formal"), atoms), 5e-5, per_atom=False)


def test_charges_that_flow_pull_on_the_features(plugin, model, tmp_path):
    atoms = crystal(repeat=(2, 1, 1))
    found = in_lammps(plugin, model("qeq"), atoms, tmp_path, 2, words="native")
    assert_equal(found, by_ase(model("qeq"), atoms), ROUNDING)


@pytest.mark.parametrize("n", [1, 4])
def test_charges_that_flow_over_kspace(plugin, model, tmp_path, monkeypatch, n):
    monkeypatch.setattr(inputs, "FLOW_ABOVE", 0)
    atoms = crystal(repeat=(2, 2, 1))
    found = in_lammps(plugin, model("qeq"), atoms, tmp_path, n, words="native")
    assert "pppm" in (tmp_path / "in.mlip").read_text()
    assert_equal(found, by_ase(model("qeq"), atoms), 1e-4, per_atom=False)


def test_dynamics_is_that_of_the_model_and_the_same_on_two_processes(plugin, model, tmp_path):
    atoms = crystal(repeat=(2, 1, 1))
    commands = "velocity all create 600 7 loop geom\nfix nve all nve\ntimestep 0.0005\nthermo 1\nrun 20"
    ends = {}
    for n, words in ((1, "native"), (2, "native"), (1, "torchscript")):
        folder = tmp_path / f"{words}{n}"
        folder.mkdir()
        found = in_lammps(plugin, model("short"), atoms, folder, n, commands, words=words)
        ends[words, n] = found["forces"]
        table = [line.split() for line in found["out"].splitlines() if re.fullmatch(r"\s*\d+( +[-+.\de]+){7}\s*", line)]
        assert len(table) == 22
    for other in (("native", 2), ("torchscript", 1)):
        assert np.abs(ends["native", 1] - ends[other]).max() < 10 * ROUNDING
    assert np.abs(ends["native", 1] - in_lammps(plugin, model("short"), atoms, tmp_path)["forces"]).max() > 1e-2


def test_the_stress_follows_a_cell_that_changes(plugin, model, tmp_path):
    commands = """velocity all create 600 7 loop geom
fix npt all npt temp 600 600 0.1 iso 5000 5000 0.1
run 10
unfix npt
velocity all set 0 0 0"""
    atoms = crystal(repeat=(2, 1, 1))
    found = in_lammps(plugin, model("short"), atoms, tmp_path, 2, commands)
    end = read_lammps_data(tmp_path / "end.data", atom_style="atomic", Z_of_type={1: 3, 2: 8, 3: 17})
    assert abs(end.get_volume() / atoms.get_volume() - 1) > 1e-4
    results = by_ase(model("short"), end).calc.results
    assert abs(np.trace(tensor(found["stress"])) - np.trace(tensor(results["stress"]))) < ROUNDING / 10
    assert abs(found["energy"] - results["energy"]) < 5 * ROUNDING


def tensor(voigt) -> np.ndarray:
    """Symmetric tensor of xx, yy, zz, yz, xz, xy."""
    return np.array([[voigt[0], voigt[5], voigt[4]], [voigt[5], voigt[1], voigt[3]], [voigt[4], voigt[3], voigt[2]]])


def test_stress_per_atom_is_that_of_the_model(plugin, model, tmp_path):
    atoms = crystal(repeat=(2, 1, 1))
    commands = """compute s all stress/atom NULL
dump s all custom 1 stress.dump id c_s[*]
dump_modify s sort id format float %.16g
run 0"""
    found = {}
    for words, n in (("native", 2), ("torchscript", 1)):
        (tmp_path / words).mkdir()
        in_lammps(plugin, model("short"), atoms, tmp_path / words, n, commands, words=words)
        lines = (tmp_path / words / "stress.dump").read_text().split("ITEM: ATOMS")[-1].splitlines()[1:]
        found[words] = np.loadtxt(lines)[:, 1:]
    scale = np.abs(found["torchscript"]).max()
    assert scale > 1e5  # bar Å^3
    assert np.abs(found["native"] - found["torchscript"]).max() < 1e-5 * scale


def test_torchscript_runs_where_the_kernel_cannot(plugin, model, tmp_path):
    """As asked for, in double precision, without a kernel for the file, or with one of other weights."""
    atoms, expected = crystal(repeat=(2, 1, 1)), by_ase(model("short"), crystal(repeat=(2, 1, 1)))
    unknown = tmp_path / "unknown.pt"
    unknown.write_bytes(model("short").read_bytes() + b"\n")
    for path, words, said in (
        (model("short"), "torchscript", r"TorchScript \(as asked for\)"),
        (model("short"), "float64", r"TorchScript \(the native kernel is float32\)"),
        (unknown, "", r"TorchScript \(no native kernel: none was compiled .* build model=.*unknown.pt"),
    ):
        found = in_lammps(plugin, path, atoms, tmp_path, words=words)
        assert re.search(said, found["out"])
        assert_equal(found, expected, ROUNDING)
    potential = potential_of(n_layers=3, born_mayer=None)
    with torch.no_grad():
        potential.network.embedding.weight += 0.3
    graphs = [to_graph(crystal(), potential.cutoff, potential.levels)]
    export(potential, unknown, {}, graphs, level="pbe", dtype=torch.float32)
    swapped = kernel_folder() / kernel_name(unknown)
    swapped.write_bytes(write_kernel(model("short")).read_bytes())
    found = in_lammps(plugin, unknown, atoms, tmp_path, 2)
    assert "the native kernel differs from the model" in found["out"]
    assert_equal(found, by_ase(unknown, atoms), ROUNDING)
    swapped.unlink()


def test_a_kernel_asked_for_by_name_must_be_there(plugin, model, tmp_path):
    in_lammps(plugin, model("short"), crystal(), tmp_path, words="native")
    script = tmp_path / "in.mlip"
    script.write_text(script.read_text().replace("mlip native", "mlip native float64"))
    done = run(script, plugin)
    assert done.returncode != 0 and "pair_style mlip native: the native kernel is float32" in done.stdout + done.stderr
