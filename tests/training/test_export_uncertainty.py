"""From runs on disk to a file with calibrated sigmas, by the command."""

import json
import shutil

import ase.io
import numpy as np
import pytest

import mlip
from mlip import cli

TINY = ["experiment=li3incl6", "trainer.max_steps=3", "trainer.validate_every=3", "trainer.accelerator=cpu",
        "model.network.n_channels=4", "model.network.l_max=1"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        assert cli.main(["train", *TINY, f"seed={seed}", f"folder={folder / str(seed)}"]) == 0
    return folder


def test_runs_become_a_committee_and_one_run_its_last_layer_both_calibrated(runs, capsys):
    assert cli.main(["export", f"run=[{runs / '0'},{runs / '1'}]"]) == 0
    assert cli.main(["export", str(runs / "0"), "uncertainty=last_layer", "n_draws=4"]) == 0
    assert capsys.readouterr().out.count("sigma calibrated on") == 2
    atoms = ase.io.read(runs / "0" / "examples.xyz")
    alone = mlip.load_calculator(runs / "0" / "model.pt")
    both = [mlip.load_calculator(runs / "committee.pt"), mlip.load_calculator(runs / "0" / "last_layer.pt")]
    for calculator in both:
        about = calculator.metadata["uncertainty"]
        assert about["frames"] > 5 and set(about["force_scale"]) == {"Li", "Cl", "In"} and about["energy_scale"] > 0
        calculator.calculate(atoms)
        assert calculator.results["force_sigma"].shape == (10,) and calculator.results["force_sigma"].min() > 0
        assert calculator.results["energy_sigma"] > 0
    np.testing.assert_allclose(both[1].get_forces(atoms), alone.get_forces(atoms), atol=1e-5)


def test_a_member_that_was_trained_on_the_held_out_frames_is_refused(runs, capsys):
    other = runs / "peeked"
    shutil.copytree(runs / "1", other)
    split = json.loads((other / "split.json").read_text())
    split["frames"]["train"] += split["frames"]["validation"][:2]
    (other / "split.json").write_text(json.dumps(split))
    assert cli.main(["export", f"run=[{runs / '0'},{other}]"]) == 2
    assert "trained on 2 of the frames" in capsys.readouterr().err


def test_frames_to_calibrate_with_can_be_given(runs, capsys):
    frames = json.loads((runs / "0" / "split.json").read_text())["frames"]["test"]
    file, number = frames[0].rsplit(":", 1)
    words = [f"calibrate=[{{path:'{file}',index:'{number}'}}]", f"path={runs / 'given.pt'}"]
    assert cli.main(["export", f"run=[{runs / '0'},{runs / '1'}]", *words]) == 0
    assert mlip.load_calculator(runs / "given.pt").metadata["uncertainty"]["frames"] == 1
    assert cli.main(["export", str(runs / "0"), "uncertainty=bayes"]) == 2
    assert "last_layer" in capsys.readouterr().err
