"""Held-out frames are read as the training read them."""

import ase.io
import pytest
from corpus import answer, labelled

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
