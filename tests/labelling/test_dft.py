"""GPAW and CHGNet, where they are installed; and that every shipped engine and execution can be built."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlip import cli, keys
from mlip.config import make
from mlip.data.structures import read
from mlip.errors import LabellingError
from mlip.labelling.calculator import CalculatorEngine
from mlip.labelling.gpaw import GPAWEngine
from mlip.labelling.run import attempt

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MUST = {"calculator": ["engine.calculator._target_=ase.calculators.emt.EMT"], "gpaw": ["engine.kpoints=[1,1,1]"],
        "files": ["engine.level_of_theory=pbe"], "slurm": ["execution.provider.partition=cpu"], "pbs": ["execution.provider.queue=cpu"],
        "kubernetes": ["execution.address=10.0.0.1", "execution.provider.image=mlip"]}  # fmt: skip
NEEDS = {
    "chgnet": "chgnet",
    "sevennet": "sevenn",
    "local": "parsl",
    "slurm": "parsl",
    "pbs": "parsl",
    "kubernetes": "kubernetes",
}


@pytest.mark.parametrize(("group", "name"), [(group, path.stem) for group in ("engine", "execution")
                                             for path in sorted((CONFIGS / group).glob("*.yaml"))])  # fmt: skip
def test_every_shipped_engine_and_execution_can_be_built(group, name, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed")
    words = ["input=a.xyz", f"output={tmp_path}/b.xyz", f"{group}={name}", *MUST.get(name, [])]
    built = make(cli.compose("label", words, [CONFIGS])[group])
    if group == "engine":
        assert built.settings()["engine"] in (name, "calculator") and callable(built.label)
    else:
        assert callable(built)


@pytest.mark.filterwarnings("ignore::UserWarning")  # chgnet's own
def test_chgnet_labels_through_the_protocol():
    calculator = pytest.importorskip("chgnet.model.dynamics", reason="chgnet is not installed").CHGNetCalculator
    atoms = read(CONFIGS.parent / "datasets/li3incl6/li3incl6_gpaw.xyz")[0]
    labelled = CalculatorEngine(lambda: calculator(use_device="cpu")).label(atoms)
    difference = labelled.arrays[keys.REF_FORCES] - atoms.arrays[keys.REF_FORCES]
    assert np.sqrt((difference**2).mean()) < 0.3, "PBE forces, roughly"
    assert np.abs(labelled.info[keys.REF_STRESS] - atoms.info[keys.REF_STRESS]).max() < 0.015, "eV/Å^3 with ASE's sign"


def lithium_hydride():
    """Two atoms off their places: a DFT label in seconds."""
    return Atoms("LiH", [[0, 0, 0], [1.9, 0.1, 0]], cell=[4, 4, 4], pbc=True)


def gpaw_engine(**settings):
    if importlib.util.find_spec("gpaw") is None:
        pytest.skip("GPAW is not installed: make gpaw")
    return GPAWEngine(**{"cutoff": 250, "xc": "PBE", "smearing": 0.1, "kpoints": [1, 1, 1], **settings})


def test_gpaw_forces_are_the_derivative_of_its_energy(tmp_path):
    engine = gpaw_engine(convergence={"energy": 1e-6, "density": 1e-6}, logs=str(tmp_path))
    middle = engine.label(lithium_hydride())
    energies = []
    for step in (0.02, -0.02):
        moved = lithium_hydride()
        moved.positions[1, 0] += step
        energies.append(engine.label(moved).info[keys.REF_ENERGY])
    assert (energies[1] - energies[0]) / 0.04 == pytest.approx(middle.arrays[keys.REF_FORCES][1, 0], abs=5e-3)
    assert middle.info[keys.REF_STRESS].shape == (3, 3) and len(list(tmp_path.glob("*.txt"))) == 3


def test_gpaw_refuses_a_cycle_that_does_not_converge_and_says_what_helps():
    outcome = attempt(gpaw_engine(max_iterations=3), lithium_hydride())
    assert "did not converge in 3 iterations" in outcome.cause and "smearing" in outcome.cause and not outcome.retryable


def test_gpaw_names_a_setup_that_is_missing_and_a_wrong_choice_of_k_points(tmp_path):
    with pytest.raises(LabellingError, match=r"Li.none.PBE is not in .*make gpaw"):
        gpaw_engine(setups={"Li": "none"}, setup_folder=str(tmp_path)).label(lithium_hydride())
    with pytest.raises(ValueError, match="either kpoints"):
        GPAWEngine(cutoff=250, xc="PBE", smearing=0.1)
    engine = GPAWEngine(cutoff=250, xc="PBE", smearing=0.1, kpoint_density=3.0)
    assert engine.mesh(Atoms("Li", cell=[4, 8, 12], pbc=True)) == [5, 3, 2]


@pytest.mark.slow
def test_gpaw_gives_the_labels_of_the_shipped_set():
    atoms = read(CONFIGS.parent / "datasets/li3incl6/li3incl6_gpaw.xyz")[0]
    engine = gpaw_engine(cutoff=500, smearing=0.02, kpoints=[2, 2, 2], setups={"Li": "sc"})
    labelled = engine.label(atoms)
    assert labelled.info[keys.REF_ENERGY] == pytest.approx(atoms.info[keys.REF_ENERGY], abs=1e-5)
    np.testing.assert_allclose(labelled.arrays[keys.REF_FORCES], atoms.arrays[keys.REF_FORCES], atol=2e-3)
