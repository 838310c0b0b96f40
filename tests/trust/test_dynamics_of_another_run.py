"""A folder of dynamics belongs to one run: another start, potential, charge or setting is refused by name, and nothing is lost."""

import ase.io
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from corpus import answer, crystal, one_line, write_model

from mlip.errors import FolderInUseError, InputError
from mlip.files import lock
from mlip.md.ensemble import NVE, Bussi
from mlip.md.run import run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.pt")


def kept(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def start(seed=None, **info):
    atoms = crystal(seed)
    atoms.info.update(info)
    return atoms


def copper(displacement=0.0):
    from ase.build import bulk

    atoms = bulk("Cu", cubic=True)
    atoms.positions[0, 0] += displacement
    return atoms


OTHERS = {
    "start": ({"atoms": copper(0.01)}, "another start"),
    "potential": ({"calculator": LennardJones(sigma=2.3, epsilon=0.1, rc=4.0)}, "another potential"),
    "ensemble": ({"ensemble": Bussi(300)}, "ensemble NVE"),
    "seed": ({"seed": 1}, "seed 0, asked is 1"),
    "velocities": ({"initial_temperature_K": 900}, "initial_temperature_K None, asked is 900"),
    "timestep": ({"timestep_fs": 2.0}, "timestep_fs 1.0, asked is 2.0"),
    "steps": ({"steps": 10}, "holds 20 steps, asked are steps=10"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_run_is_refused_and_the_folder_stays_as_it_was(other, tmp_path):
    same = {
        "atoms": copper(),
        "calculator": EMT(),
        "folder": tmp_path,
        "ensemble": NVE(300),
        "steps": 20,
        "progress": False,
    }
    run(**same)
    before = kept(tmp_path)
    changed, words = OTHERS[other]
    with pytest.raises(InputError, match=words):
        run(**{**same, **changed})
    assert kept(tmp_path) == before
    assert run(**same)["time_ps"] == pytest.approx(0.02)


def test_another_charge_is_refused_by_the_command(model, tmp_path, capsys):
    for name, info in (("a", {}), ("b", {"charge": 1.0})):
        ase.io.write(tmp_path / f"{name}.xyz", start(**info))
    words = ["md", model, "folder", "steps=5"]
    words[2] = f"folder={tmp_path / 'md'}"
    assert answer(capsys, *words[:2], tmp_path / "a.xyz", *words[2:])[0] == 0
    code, said = answer(capsys, *words[:2], tmp_path / "b.xyz", *words[2:])
    assert code == 2 and "total_charge" in one_line(said)


def test_a_trajectory_of_somebody_else_is_not_overwritten(tmp_path):
    (tmp_path / "trajectory.traj").write_bytes(b"a thesis")
    with pytest.raises(FolderInUseError, match=r"no run of mlip: choose another folder"):
        run(copper(), EMT(), tmp_path, NVE(300), steps=5, progress=False)
    assert (tmp_path / "trajectory.traj").read_bytes() == b"a thesis"


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    with lock(tmp_path / "lock"), pytest.raises(FolderInUseError, match="another process runs dynamics"):
        run(copper(), EMT(), tmp_path, NVE(300), steps=5, progress=False)
    run(copper(), EMT(), tmp_path, NVE(300), steps=5, progress=False)


def test_constraints_of_the_start_are_refused(model, tmp_path, capsys):
    atoms = crystal()
    atoms.set_constraint(FixAtoms([0, 1, 2, 3]))
    ase.io.write(tmp_path / "POSCAR", atoms, format="vasp")
    code, said = answer(capsys, "md", model, tmp_path / "POSCAR", f"folder={tmp_path / 'md'}", "steps=1")
    assert code == 2 and "has constraints (FixAtoms" in one_line(said) and not (tmp_path / "md").exists()


def test_frames_of_dynamics_carry_no_label_of_the_start(tmp_path):
    atoms = copper()
    atoms.info["REF_energy"] = -1.0
    run(atoms, EMT(), tmp_path, NVE(300), steps=4, frame_every=2, progress=False)
    for frame in ase.io.read(tmp_path / "trajectory.traj", ":"):
        assert not [name for name in (*frame.info, *frame.arrays) if name.lower().startswith("ref")]
