"""`mlip evaluate` and `mlip report` as a person types them."""

import json
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk
from hydra.utils import get_method

from mlip import cli, config
from mlip.commands.evaluate import exported, selected
from mlip.commands.report import presentations
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


@pytest.mark.parametrize("level", config.LEVELS)
def test_every_shipped_property_names_what_exists_and_has_a_place_in_the_report(level):
    cfg = config.compose("evaluate", [f"evaluation={level}"], [config.CONFIGS])
    for key in config.leaves(cfg):
        if key.endswith("_target_"):
            assert callable(get_method(config.OmegaConf.select(cfg, key)))
    assert set(cfg.properties) == {path.stem for path in (config.CONFIGS / "property").glob("*.yaml")}
    presented = presentations(config.compose("report", [], [config.CONFIGS]).properties)
    assert list(presented) == list(presentations(cfg.properties)) and all(each.figures for each in presented.values())
    assert len({node.order for node in cfg.properties.values()}) == len(cfg.properties)
    for node in cfg.properties.values():
        assert all(config.OmegaConf.select(cfg, key, default="absent") != "absent" for key in node.needs)
        assert set(node.get("levels", [])) <= set(config.LEVELS)


def test_a_level_decides_numbers_and_properties_and_only_goes_before_it():
    short, full = (config.compose("evaluate", [f"evaluation={level}", "properties.cost.largest=9"], [config.CONFIGS]).properties
                   for level in ("short", "full"))  # fmt: skip
    assert (short.diffusion.dynamics.production_ps, full.diffusion.dynamics.production_ps) == (10, 1000)
    assert short.cost.largest == full.cost.largest == 9
    assert "phonons" not in selected(short, None, "short") and "diffusion_large" in selected(full, None, "full")
    assert selected(short, ["phonons"], "short") == ["phonons"]


def test_a_material_names_the_framework_too():
    for material, framework in (("oxide", ["O"]), ("halide", None)):  # halides differ in their anion
        analysis = config.compose("evaluate", [f"material={material}"], [config.CONFIGS]).properties.diffusion.analysis
        assert (analysis.mobile, analysis.charge, analysis.framework) == ("Li", 1, framework)
    assert config.compose("evaluate", [], [config.CONFIGS]).properties.diffusion.analysis.framework is None


PROPERTY = """
from dataclasses import dataclass
from mlip.evaluation.plots import canvas
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section

@dataclass(frozen=True)
class Well:
    atoms: object
    depth: float = 1.0

    def evaluate(self, calculator):
        atoms = self.atoms.copy()
        atoms.calc = calculator
        return Section("well", [Result("well_depth", self.depth, "eV")], {"energies_eV": [0.0, atoms.get_potential_energy()]})

    @staticmethod
    def figures(data):
        figure, axis = canvas("step", "energy (eV)")
        axis.plot(data["energies_eV"])
        return {"well": figure}
"""
CONFIG = """
title: Depth of a well
order: 45.5
needs: [model, structure]
_target_: well.Well
atoms: {_target_: mlip.evaluation.inputs.structure, file: "${structure}"}
depth: ${level:1,2,3}
thresholds: {well_depth: {unit: eV, at_most: [1.5, 2.5]}}
"""


def test_a_property_is_added_by_one_python_file_and_one_yaml_file(capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "well.py").write_text(PROPERTY)
    (tmp_path / "mine" / "property").mkdir(parents=True)
    (tmp_path / "mine" / "property" / "well.yaml").write_text(CONFIG)
    words = [EMT, "structure=cu.xyz", "only=[lattice,well]", "folder=one", "--config-dir", "mine"]
    code, said = answer(capsys, "evaluate", *words)
    assert code == 0 and "1/2 lattice: done" in said and "2/2 well: done" in said
    (depth,) = [row for row in json.loads(Path("one/results.json").read_text()) if row["name"] == "well_depth"]
    assert depth["value"] == 2 and depth["verdict"] == "warn" and depth["conditions"] == {"section": "well"}
    page = Path("one/report.html").read_text()
    assert "Depth of a well" in page and page.index('id="lattice"') < page.index('id="well"')
    assert Path("one/figures/well_well.png").is_file()
    code, said = answer(
        capsys, "report", "one", "--config-dir", "mine", "properties.well.thresholds.well_depth.at_most=[0.1,0.2]"
    )
    assert code == 0 and "fail" in said
    assert "property.depth 2, not 1" in answer(capsys, "evaluate", *words, "evaluation=short")[1]


def test_the_folder_of_an_earlier_version_is_reported_and_not_mixed_with_new_numbers(capsys):
    assert answer(capsys, "evaluate", EMT, "structure=cu.xyz", "only=[lattice]", "folder=one")[0] == 0
    section = json.loads(Path("one/sections/lattice.json").read_text())
    section |= {"name": "static.lattice", "settings": {"candidate": {}, "part": {}, "files": {}}}
    Path("one/sections/lattice.json").unlink()
    Path("one/sections/static.lattice.json").write_text(json.dumps(section))
    code, said = answer(capsys, "report", "one")
    assert (
        code == 0 and "volume change" in said and '<h2 id="lattice">Lattice</h2>' in Path("one/report.html").read_text()
    )
    Path("one/sections/static.lattice.json").rename("one/sections/lattice.json")
    code, said = answer(capsys, "evaluate", EMT, "structure=cu.xyz", "only=[lattice]", "folder=one")
    assert code == 2 and "earlier version" in said and "overwrite=true" in said


def test_any_calculator_is_evaluated_resumed_and_reported_and_two_are_compared(capsys):
    words = ["evaluate", EMT, "structure=cu.xyz", "only=[lattice,accuracy]", "folder=one", "name=EMT"]
    code, said = answer(capsys, *words)
    assert code == 0 and "1/1 lattice: done" in said and "one/report.html" in said
    about = json.loads(Path("one/evaluation.json").read_text())
    assert (
        about["left_out"] == {"accuracy": ["data.files"]}
        and about["calculator"]["_target_"] == "ase.calculators.emt.EMT"
    )
    assert "done before" in answer(capsys, *words)[1]
    page = Path("one/report.html").read_text()
    assert answer(capsys, "report", "one")[0] == 0 and Path("one/report.html").read_text() == page
    code, said = answer(capsys, *words, "+properties.lattice.fmax=0.1")
    assert code == 2 and "property.fmax" in said and "overwrite=true" in said
    assert answer(capsys, *words[:-2], "folder=two", "name=other")[0] == 0
    assert answer(capsys, "evaluate", "compare=[one,two]", "folder=both")[0] == 0
    assert "EMT · other" in Path("both/comparison.html").read_text()


def test_thresholds_come_from_the_config_and_can_be_set(capsys):
    assert answer(capsys, "evaluate", EMT, "structure=cu.xyz", "only=[lattice]", "folder=one")[0] == 0
    assert "fail" not in answer(capsys, "report", "one")[1]
    assert (
        "fail"
        in answer(capsys, "report", "one", "properties.lattice.thresholds.volume_change.size_at_most=[0.1,0.2]")[1]
    )


def test_a_property_that_fails_gives_code_1_and_its_own_sentence(capsys):
    code, said = answer(capsys, "evaluate", EMT, "structure=gone.xyz", "only=[lattice]", "folder=one")
    assert code == 2 and "gone.xyz" in said, "a structure is read before the first property"
    code, said = answer(capsys, "evaluate", EMT, "structure=cu.xyz", "mobile=Au", "only=[barriers]", "folder=one")
    assert code == 1 and "Au" in said and "Error in call" not in said


@pytest.mark.parametrize(
    "words, said",
    [
        (["nowhere.pt"], "no model nowhere.pt"),
        (["m.pt", EMT], "either a model or a calculator"),
        ([EMT], "accuracy needs data.files"),
        ([EMT, "structure=cu.xyz", "only=[phonon]"], "only=phonon: there is no such property"),
        (["compare=[one]"], "at least two"),
    ],
)
def test_what_is_missing_is_asked_for(words, said, capsys):
    code, told = answer(capsys, "evaluate", *words)
    assert code == 2 and said in told


def test_a_training_is_exported_and_evaluated_on_the_frames_that_it_held_out(run):
    start = f"{config.CONFIGS.parent}/datasets/li3incl6/li3incl6_gpaw.xyz@0"
    words = [str(run), start, "only=[accuracy,lattice]", "+properties.lattice.steps=1"]
    assert cli.main(["evaluate", *words]) == 0
    n_test = len(json.loads((run / "split.json").read_text())["frames"]["test"])
    notes = json.loads((run / "evaluation" / "sections" / "accuracy.json").read_text())["notes"]
    assert len(labelled(str(run))) == n_test and notes[0].startswith(f"{n_test} structures")
    about = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert about["elements"] == "Li Cl In" and len(about["sha256"]) == 16 and about["dtype"] == "float32"


def test_a_checkpoint_is_exported_beside_itself(run):
    path, folder = exported(run / "checkpoints" / "last.ckpt")
    assert path == run / "checkpoints" / "last.pt" and path.is_file() and folder is None


def test_an_engine_labels_the_saddles_of_the_barriers_and_no_label_is_a_failed_property(capsys):
    words = ["evaluate", EMT, "structure=cu.xyz", "repeat=[2,2,2]", "mobile=Cu", "only=[barriers]", "name=EMT",
             "properties.barriers.n_hops=1", "properties.barriers.n_images=5"]  # fmt: skip
    assert answer(capsys, *words, "engine=emt", "folder=one")[0] == 0
    found = {row["name"]: row["value"] for row in json.loads(Path("one/results.json").read_text())}
    assert found["barrier_own"] > 0.5 and found["barrier_own_error"] == pytest.approx(0, abs=1e-6)
    assert len(list(Path("one/barriers/labels").glob("*.xyz"))) == 3
    code, said = answer(capsys, *words, "engine=files", "engine.level_of_theory=pbe", "folder=two")
    assert code == 1 and "has no label" in said
