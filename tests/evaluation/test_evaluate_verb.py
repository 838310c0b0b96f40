"""`mlip evaluate` and `mlip report` as a person types them."""

import json
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk
from hydra.utils import get_method

from mlip import cli, config
from mlip.commands.evaluate import exported
from mlip.evaluation.inputs import labelled

EMT = "calculator={_target_: ase.calculators.emt.EMT}"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("cu.xyz", bulk("Cu", a=3.55, cubic=True))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training of two steps without its exported file."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert cli.main(["train", "experiment=li3incl6", "trainer.max_steps=2", "trainer.accelerator=cpu", f"folder={folder}",
                     "model.network.n_channels=4", "model.network.l_max=1"]) == 0  # fmt: skip
    (folder / "model.pt").unlink()
    return folder


def answer(capsys, *words):
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    return code, out + err


def shipped():
    return [f"evaluation={name}" for name in config.options("evaluation", [config.CONFIGS])]


@pytest.mark.parametrize("choice", shipped())
def test_every_shipped_evaluation_names_what_exists_and_has_a_place_in_the_layout(choice):
    cfg = config.compose("evaluate", [choice], [config.CONFIGS])
    for key in config.leaves(cfg):
        if key.endswith("_target_"):
            assert callable(get_method(config.OmegaConf.select(cfg, key)))
    parts = config.nodes_with("_target_", cfg.dimensions)
    assert set(parts) <= set(config.nodes_with("title", cfg.layout))
    assert set(cfg.thresholds) <= set(cfg.layout) and set(cfg.thresholds.static) <= set(cfg.layout.static)
    for node in parts.values():
        assert all(config.OmegaConf.select(cfg, key, default="absent") != "absent" for key in node.needs)


def test_any_calculator_is_evaluated_resumed_and_reported_and_two_are_compared(capsys):
    words = ["evaluate", EMT, "structure=cu.xyz", "only=[static.lattice,accuracy]", "folder=one", "name=EMT"]
    code, said = answer(capsys, *words)
    assert code == 0 and "1/1 static.lattice: done" in said and "one/report.html" in said
    about = json.loads(Path("one/evaluation.json").read_text())
    assert about["left_out"] == {"accuracy": ["data.files"]} and about["calculator"]["_target_"] == "ase.calculators.emt.EMT"
    assert "done before" in answer(capsys, *words)[1]
    page = Path("one/report.html").read_text()
    assert answer(capsys, "report", "one")[0] == 0 and Path("one/report.html").read_text() == page
    code, said = answer(capsys, *words, "+dimensions.static.lattice.fmax=0.1")
    assert code == 2 and "part.fmax" in said and "overwrite=true" in said
    assert answer(capsys, *words[:-2], "folder=two", "name=other")[0] == 0
    assert answer(capsys, "evaluate", "compare=[one,two]", "folder=both")[0] == 0
    assert "EMT · other" in Path("both/comparison.html").read_text()


def test_thresholds_come_from_the_config_and_can_be_set(capsys):
    assert answer(capsys, "evaluate", EMT, "structure=cu.xyz", "only=[static.lattice]", "folder=one")[0] == 0
    assert "fail" not in answer(capsys, "report", "one")[1]
    assert "fail" in answer(capsys, "report", "one", "thresholds.static.lattice.volume_change.size_at_most=[0.1,0.2]")[1]


def test_a_part_that_fails_gives_code_1_and_its_own_sentence(capsys):
    code, said = answer(capsys, "evaluate", EMT, "structure=gone.xyz", "only=[static.lattice]", "folder=one")
    assert code == 1 and "gone.xyz" in said and "Error in call" not in said


@pytest.mark.parametrize(
    "words, said",
    [
        (["nowhere.pt"], "no model nowhere.pt"),
        (["m.pt", EMT], "either a model or a calculator"),
        ([EMT], "accuracy needs data.files"),
        ([EMT, "structure=cu.xyz", "only=[phonon]"], "only=phonon: there is no such part"),
        (["compare=[one]"], "at least two"),
    ],
)
def test_what_is_missing_is_asked_for(words, said, capsys):
    code, told = answer(capsys, "evaluate", *words)
    assert code == 2 and said in told


def test_a_training_is_exported_and_evaluated_on_the_frames_that_it_held_out(run):
    start = f"{config.CONFIGS.parent}/datasets/li3incl6/li3incl6_gpaw.xyz@0"
    words = [str(run), start, "only=[accuracy,static.lattice]", "+dimensions.static.lattice.steps=1"]
    assert cli.main(["evaluate", *words]) == 0
    n_test = len(json.loads((run / "split.json").read_text())["frames"]["test"])
    notes = json.loads((run / "evaluation" / "sections" / "accuracy.json").read_text())["notes"]
    assert len(labelled(str(run))) == n_test and notes[0].startswith(f"{n_test} structures")
    about = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert about["elements"] == "Li Cl In" and len(about["sha256"]) == 16 and about["dtype"] == "float32"


def test_a_checkpoint_is_exported_beside_itself(run):
    path, folder = exported(run / "checkpoints" / "last.ckpt")
    assert path == run / "checkpoints" / "last.pt" and path.is_file() and folder is None


def test_an_engine_labels_the_saddles_of_the_barriers_and_no_label_is_a_failed_part(capsys):
    words = ["evaluate", EMT, "structure=cu.xyz", "repeat=[2,2,2]", "mobile=Cu", "only=[static.barriers]", "name=EMT",
             "dimensions.static.barriers.n_hops=1", "+dimensions.static.barriers.n_images=5"]  # fmt: skip
    assert answer(capsys, *words, "engine=emt", "folder=one")[0] == 0
    found = {row["name"]: row["value"] for row in json.loads(Path("one/results.json").read_text())}
    assert found["barrier_own"] > 0.5 and found["barrier_own_error"] == pytest.approx(0, abs=1e-6)
    assert len(list(Path("one/barriers/labels").glob("*.xyz"))) == 3
    code, said = answer(capsys, *words, "engine=files", "engine.level=pbe", "folder=two")
    assert code == 1 and "has no label" in said
