"""LAMMPS gives the numbers of the ASE calculator, on any number of processes. Skipped without LAMMPS, MPI or a compiler."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.lammps import Prism
from ase.io.lammpsdata import read_lammps_data
from lammps_run import assert_equal, by_ase, in_lammps, needs_lammps, run
from small import crystal, potential_of

from mlip.data.graph import to_graph
from mlip.electrostatics import BondCharges, EquilibratedCharges, FormalCharges
from mlip.errors import InputError
from mlip.export import export
from mlip.lammps import inputs
from mlip.lammps.inputs import write_input

pytestmark = needs_lammps
HEADS = {
    "short": None,
    "formal": partial(FormalCharges, tolerance=1e-8),
    "bond_charges": partial(BondCharges, tolerance=1e-8),
    "qeq": partial(EquilibratedCharges, tolerance=1e-8),
    "qeq_dipoles": partial(EquilibratedCharges, dipoles=True),
}


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


@pytest.mark.parametrize("n", [1, 2])
def test_short_range(plugin, model, tmp_path, n):
    atoms = crystal(repeat=(2, 1, 1))
    assert_equal(in_lammps(plugin, model("short"), atoms, tmp_path, n), by_ase(model("short"), atoms), 1e-9)


@pytest.mark.parametrize(
    "head, solved, tolerance",
    [("bond_charges", True, 1e-6), ("bond_charges", False, 3e-5), ("qeq", True, 1e-6), ("qeq", False, 5e-5)],
)
def test_a_process_without_atoms_and_one_without_neighbours(
    plugin, model, tmp_path, monkeypatch, head, solved, tolerance
):
    """A quarter of the box is full, then comes nothing, then a lone ion."""
    monkeypatch.setattr(inputs, "FLOW_ABOVE", 0)
    atoms = crystal()
    atoms.set_cell(atoms.cell.array * [[1], [1], [5]])
    atoms.append("Li")
    atoms.positions[-1] = atoms.cell[2] * 0.85
    atoms.positions -= atoms.positions.min(0) * [0, 0, 1]
    found = in_lammps(plugin, model(head), atoms, tmp_path, 3, before="processors 1 1 3", solved=solved)
    assert re.search(r"Nlocal: .* 0 min", found["out"])
    assert_equal(found, by_ase(model(head), atoms), tolerance, per_atom=solved)


@pytest.mark.parametrize("head, n", [("formal", 2), ("bond_charges", 1), ("bond_charges", 2)])
def test_charges_in_the_reciprocal_part_of_lammps(plugin, model, tmp_path, head, n):
    atoms = crystal(repeat=(2, 2, 1))
    found = in_lammps(plugin, model(head), atoms, tmp_path, n)
    assert "pppm" in (tmp_path / "in.mlip").read_text()
    assert_equal(found, by_ase(model(head), atoms), 3e-5, per_atom=False)
    transferred = np.abs(
        found["charges"] - np.select([atoms.numbers == 3, atoms.numbers == 8], [1.0, -2.0], -1.0)
    ).max()
    assert transferred > 0.01 if head == "bond_charges" else transferred < 1e-9


@pytest.mark.parametrize("head, n", [("qeq", 1), ("qeq_dipoles", 2), ("bond_charges", 2)])
def test_charges_solved_by_every_process(plugin, model, tmp_path, head, n):
    atoms = crystal(repeat=(2, 1, 1))
    found = in_lammps(plugin, model(head), atoms, tmp_path, n, solved=True)
    assert_equal(found, by_ase(model(head), atoms), 1e-6)


@pytest.mark.parametrize("head", ["short", "formal", "bond_charges"])
def test_energies_of_elements_and_of_the_total_charge_are_added(plugin, tmp_path, head):
    """Numbers of the whole crystal, which no lattice sum and no local term has."""
    atoms, path = crystal(repeat=(2, 1, 1)), tmp_path / "model.pt"
    constants = {"charge_energies": [0.0, 47.0], "coulomb_energies": [10.0, -300.0, 50.0]}
    potential = potential_of(HEADS[head], **constants)
    export(potential, path, {}, [to_graph(atoms, potential.cutoff, potential.levels)], level="r2scan")
    del atoms[0]
    atoms.info["total_charge"] = -1.0
    found, expected = in_lammps(plugin, path, atoms, tmp_path, 2), by_ase(path, atoms)
    assert_equal(found, expected, 1e-9 if head == "short" else 3e-5, per_atom=False)
    without = potential_of(HEADS[head])
    export(without, path, {}, [to_graph(atoms, potential.cutoff, potential.levels)], level="r2scan")
    assert abs(by_ase(path, atoms).get_potential_energy() - found["energy"]) > 1.0


def flowing(tmp_path, repeat):
    """A crystal, and a file with charges that flow in widths that differ."""
    atoms, path, potential = crystal(repeat=repeat), tmp_path / "model.pt", potential_of(HEADS["qeq"])
    with torch.no_grad():
        potential.terms[-1].width.table.weight.copy_(torch.tensor([[-2.0], [0.7], [0.0]]))
    export(potential, path, {}, [to_graph(atoms, potential.cutoff, potential.levels)], level="pbe")
    return atoms, path


@pytest.mark.parametrize("n", [1, 2])
def test_charges_that_flow_are_equilibrated_over_kspace(plugin, tmp_path, monkeypatch, n):
    """Widths differ, so that near pairs are corrected beyond the cutoff of the network."""
    monkeypatch.setattr(inputs, "FLOW_ABOVE", 0)
    atoms, path = flowing(tmp_path, (2, 1, 1))
    found, expected = in_lammps(plugin, path, atoms, tmp_path, n), by_ase(path, atoms)
    assert "pppm" in (tmp_path / "in.mlip").read_text()
    assert_equal(found, expected, 5e-5, per_atom=False)
    assert np.ptp(found["charges"][atoms.numbers == 3]) > 0.01


@pytest.mark.parametrize("solved", [False, True])
def test_charges_start_from_the_last_steps_also_of_atoms_that_migrate(plugin, tmp_path, monkeypatch, solved):
    """What dynamics leaves is what the ASE calculator finds for its last structure, in fewer iterations than from cold."""
    monkeypatch.setattr(inputs, "FLOW_ABOVE", 0)
    atoms, path = flowing(tmp_path, (2, 2, 2))
    dynamics = "velocity all create 3000 7 loop geom\nfix nve all nve\ntimestep 0.0005\nthermo 1\nrun 40"
    iterations = []
    for n in (1, 3):
        (tmp_path / str(n)).mkdir()
        found = in_lammps(plugin, path, atoms, tmp_path / str(n), n, dynamics, skin=0.1, solved=solved)
        end = read_lammps_data(tmp_path / str(n) / "end.data", atom_style="charge", Z_of_type={1: 3, 2: 8, 3: 17})
        assert np.abs(found["charges"] - by_ase(path, end).calc.results["charges"]).max() < 1e-5
        iterations += re.findall(r"([\d.]+) iterations a step", found["out"])[:1]
    if not solved:
        cold = re.search(r"([\d.]+) iterations a step", in_lammps(plugin, path, atoms, tmp_path, 1)["out"])
        alone, shared = map(float, iterations)
        assert shared == pytest.approx(alone, abs=0.3)
        assert alone < 0.8 * float(cold.group(1))


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
