"""Held-out frames are read as the training read them; one energy is taken for all frames."""

import ase.io
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from corpus import answer, labelled

from mlip.data.doctor import check
from mlip.data.structures import read
from mlip.errors import InputError
from mlip.evaluation.inputs import held_out

TINY = ["model/network=small", "model.network.n_channels=4", "model.network.l_max=1", "trainer.max_steps=1",
        "trainer.validate_every=1", "trainer.accelerator=cpu", "trainer.logger=null"]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{path: a.xyz, keys: {energy: hse_energy}}", lambda n: -50.0 - n),
        ("{path: a.xyz, index: '-6:'}", lambda n: -80.0 + 0.1 * n),
        ("{path: a.xyz, energy_shift: {Li: 1.0, Cl: 0.0}}", None),
    ],
    ids=["keys", "index", "shift"],
)
def test_keys_index_and_shift_of_the_training_hold(entry, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = labelled(10)
    for n, atoms in enumerate(frames):
        atoms.info["hse_energy"] = -50.0 - n
    ase.io.write("a.xyz", frames)
    words = ["data.split.method=random", "data.split.test=2", "data.split.validation=2"]
    assert (
        answer(capsys, "train", f"data.files=[{entry}]", f"data.cache={tmp_path}", "folder=run", *words, *TINY)[0] == 0
    )
    for atoms in held_out(tmp_path / "run"):
        number = next(n for n, frame in enumerate(frames) if abs(frame.positions - atoms.positions).max() < 1e-6)
        plain = frames[number].info["REF_energy"]
        wanted = expected(number) if expected else plain
        difference = abs(atoms.info["ref_energy"] - wanted)
        assert difference < 1e-6 if expected else difference == pytest.approx(4.0, abs=1e-6)


def with_energies(tmp_path, n_free: int, gap: float):
    """Eight frames with energy, n_free of them with a free_energy that lies lower by gap, eV."""
    frames = labelled(8)
    for number, atoms in enumerate(frames):
        energy = atoms.info.pop("REF_energy")
        free = {"free_energy": energy - gap} if number < n_free else {}
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=atoms.arrays.pop("REF_forces"), **free)
        del atoms.info["REF_stress"]
    ase.io.write(tmp_path / "a.xyz", frames)
    return str(tmp_path / "a.xyz")


def test_one_energy_is_taken_for_all_frames(tmp_path):
    file = with_energies(tmp_path, 5, 1.0)
    with pytest.raises(
        InputError, match=r"a.xyz:5 has energy, the frames before it energy and free_energy: one energy"
    ):
        read(file)
    assert len(read({"path": file, "keys": {"energy": "energy"}})) == 8
    assert any(
        finding.severity == "error" and "one energy for all frames" in finding.message for finding in check(file)
    )


@pytest.mark.parametrize(("gap", "severity"), [(0.1, "ok"), (1.0, "warn")])
def test_a_stale_free_energy_is_a_warning(gap, severity, tmp_path):
    findings = [f for f in check(with_energies(tmp_path, 8, gap)) if "free_energy" in f.message or f.severity == "ok"]
    assert ("free_energy and energy differ" in " ".join(f.message for f in findings)) == (severity == "warn")
