"""Runs are ranked by what they say of hops, not by their mean error; a sweep that was cut off goes on."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from mlip import cli, keys
from mlip.data.structures import read, write
from mlip.sampling import ranking

DATA = cli.CONFIGS.parent / "datasets" / "li3incl6" / "li3incl6_gpaw.xyz"
TINY = ["train", "-m", f"data.files={DATA}", "model=small", "trainer.max_steps=2", "trainer.validate_every=2", "trainer.accelerator=cpu",
        "trainer.logger=null", "model.network.n_channels=2,3", "model.network.l_max=1", "folder=sweep"]  # fmt: skip


class Wrong(Calculator):
    """No forces in truth; here `ion` eV/Å too many on atom 0 along its way, `host` on all others across it."""

    implemented_properties = ("energy", "forces")

    def __init__(self, ion, host):
        super().__init__()
        self.ion, self.host = ion, host

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        forces = np.zeros((len(atoms), 3))
        forces[0, 0], forces[1:, 2] = self.ion, self.host
        self.results = {"energy": -self.ion * atoms.positions[0, 0], "forces": forces}


def hop():
    """An ion that moves by 1 Å from its start to its saddle, the energy flat."""
    out = []
    for kind, x in (("end", 0.0), ("saddle", 1.0)):
        info = {"kind": kind, "hop": "t0", "ion": 0, "source": f"hops.xyz:{len(out)}", keys.REF_ENERGY: 0.0}
        out.append(Atoms("LiCl3", [[x, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]], cell=[8, 8, 8], pbc=True, info=info))
        out[-1].set_array(keys.REF_FORCES, np.zeros((4, 3)))
    return out


def runs_of(folder, errors, seen=()):
    """Folders of runs that say what they were trained on, and what their models are wrong by."""
    runs = {}
    for name in errors:
        runs[name] = folder / name
        runs[name].mkdir()
        (runs[name] / "model.pt").touch()
        (runs[name] / "metrics.json").write_text(json.dumps({"cpu_s": 7.0}))
        (runs[name] / "split.json").write_text(json.dumps({"frames": {"train": list(seen), "validation": []}}))
    return runs, lambda path: Wrong(*errors[path.parent.name])


def test_the_run_that_is_best_at_hops_comes_first_though_its_mean_error_is_the_largest(tmp_path):
    runs, load = runs_of(tmp_path, {"smooth": (0.2, 0.01), "sharp": (0.03, 0.5), "middle": (0.1, 0.1)})
    rows = ranking.rank(runs, hop(), load)
    assert [row["run"] for row in rows] == ["sharp", "middle", "smooth"] and [row["place"] for row in rows] == [1, 2, 3]
    assert rows[0]["ion_force_vector_mae"] == pytest.approx(0.03) and rows[0]["barrier_mae"] == pytest.approx(0.03)
    assert rows[0]["force_vector_rmse"] == pytest.approx(np.sqrt((0.03**2 + 3 * 0.5**2) / 4))
    assert rows[0]["force_vector_rmse"] > rows[2]["force_vector_rmse"]


def test_frames_that_a_run_has_seen_rank_nothing(tmp_path):
    runs, load = runs_of(tmp_path, {"one": (0.1, 0.1)}, seen=["hops.xyz:1"])
    with pytest.raises(ValueError, match="trained on 1 frames of hold_out, hops.xyz:1"):
        ranking.rank(runs, hop(), load)


def test_a_file_that_cannot_rank_is_refused_before_anything_is_trained(hops_of_li3incl6, capsys):
    assert cli.main([*TINY, "hold_out=nowhere.xyz"]) == 2 and "nowhere.xyz" in capsys.readouterr().err
    assert cli.main([*TINY, f"hold_out={DATA}"]) == 2 and "none of the 148 frames" in capsys.readouterr().err
    assert not Path("sweep").exists()


@pytest.fixture
def hops_of_li3incl6(tmp_path, monkeypatch):
    """Two shipped frames that take the part of a hop, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    frames = read(str(DATA))[:2]
    for atoms, kind in zip(frames, ("end", "saddle"), strict=True):
        atoms.info.update(kind=kind, hop="t0", ion=int(np.flatnonzero(atoms.numbers == 3)[0]))
    write("hops.xyz", frames)
    return tmp_path


def test_a_sweep_ends_with_its_ranking_and_keeps_finished_runs(hops_of_li3incl6, capsys):
    assert cli.main([*TINY, "hold_out=hops.xyz"]) == 0
    said = capsys.readouterr().out
    assert "best first" in said and "finished before" not in said
    rows = Path("sweep/ranking.csv").read_text().splitlines()
    assert (
        len(rows) == 3
        and rows[0].startswith("place,run,ion_force_vector_mae,barrier_mae")
        and "model.network.n_channels=" in rows[1]
    )
    times = [path.stat().st_mtime_ns for path in sorted(Path("sweep").glob("*/model.pt"))]
    assert cli.main([*TINY, "hold_out=hops.xyz"]) == 0
    assert capsys.readouterr().out.count("finished before") == 2
    assert times == [path.stat().st_mtime_ns for path in sorted(Path("sweep").glob("*/model.pt"))]
    assert cli.main([*TINY, "seed=3", "hold_out=hops.xyz"]) == 2, "another config is not taken for the finished one"
