"""OpenMM: forces of the entry point are those of the calculator."""

from importlib.metadata import entry_points

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from morse import morse_potential

from mlip import load_calculator
from mlip.data.graph import to_graph
from mlip.export import export

openmm = pytest.importorskip("openmm", reason="OpenMM is not installed: pip install openmm openmmml")
openmmml = pytest.importorskip("openmmml", reason="openmm-ml is not installed: pip install openmmml")

from openmm import app, unit  # noqa: E402
from openmmml.mlpotential import MLPotential  # noqa: E402

from mlip.openmm import MlipPotentialFactory  # noqa: E402


@pytest.fixture
def model(tmp_path):
    MLPotential.registerImplFactory("mlip", MlipPotentialFactory())  # as the entry point does where mlip is installed
    export(morse_potential(), tmp_path / "model.pt", {}, [to_graph(bulk("LiCl", "rocksalt", a=5.1), 4.0)])
    return tmp_path / "model.pt"


def topology_of(atoms: Atoms) -> app.Topology:
    topology = app.Topology()
    residue = topology.addResidue("crystal", topology.addChain())
    for atom in atoms:
        topology.addAtom(atom.symbol, app.Element.getByAtomicNumber(int(atom.number)), residue)
    if atoms.pbc.all():
        topology.setPeriodicBoxVectors(atoms.cell.array * unit.angstrom)
    return topology


def context_of(model, atoms: Atoms):
    system = MLPotential("mlip", modelPath=str(model), dtype="float64").createSystem(topology_of(atoms))
    context = openmm.Context(system, openmm.VerletIntegrator(1.0 * unit.femtosecond))
    context.setPositions(atoms.positions * unit.angstrom)
    return context


@pytest.mark.parametrize("pbc", [True, False])
def test_energy_and_forces_are_those_of_the_calculator(model, pbc):
    atoms = bulk("LiCl", "rocksalt", a=5.1, cubic=True)
    atoms.pbc = pbc
    atoms.rattle(0.1, seed=0)
    state = context_of(model, atoms).getState(getEnergy=True, getForces=True)
    atoms.calc = load_calculator(model)
    energy = state.getPotentialEnergy() / unit.AVOGADRO_CONSTANT_NA
    assert energy.value_in_unit(unit.joule) / 1.602176634e-19 == pytest.approx(atoms.get_potential_energy(), rel=1e-7)
    forces = (state.getForces(asNumpy=True) / unit.AVOGADRO_CONSTANT_NA).value_in_unit(unit.joule / unit.angstrom)
    np.testing.assert_allclose(forces / 1.602176634e-19, atoms.get_forces(), atol=1e-6)


def test_dynamics_keeps_its_energy(model):
    atoms = bulk("LiCl", "rocksalt", a=5.1, cubic=True)
    atoms.rattle(0.1, seed=0)
    context = context_of(model, atoms)
    energies = []
    for _ in range(40):
        context.getIntegrator().step(1)
        state = context.getState(getEnergy=True)
        energies.append((state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(unit.kilojoule_per_mole))
    assert np.ptp(energies) < 0.2


def test_a_model_must_be_named():
    with pytest.raises(ValueError, match="no modelPath"):
        MlipPotentialFactory().createImpl("mlip")


def test_the_entry_point_names_the_factory():
    found = [point for point in entry_points(group="openmmml.potentials") if point.name == "mlip"]
    if not found:
        pytest.skip("mlip is not installed as a package, or from before it had the entry point")
    assert found[0].load() is MlipPotentialFactory
