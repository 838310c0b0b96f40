"""The command: what a person types, and what comes back."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import ase.io
import pytest
import yaml

from mlip import cli, config

CHECKOUT = Path(__file__).resolve().parents[1]
DATA = CHECKOUT / "datasets" / "li3incl6" / "li3incl6_gpaw.xyz"
TINY = [
    "experiment=li3incl6", "trainer.max_steps=4", "trainer.validate_every=2", "trainer.accelerator=cpu",
    "model.network.n_channels=4", "model.network.l_max=1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few steps, as a person would start it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert cli.main(["train", *TINY, f"folder={folder}"]) == 0
    return folder


def answer(capsys, *words):
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    return code, out + err


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_every_verb_has_an_example_and_its_keys(verb, capsys):
    code, said = answer(capsys, *verb.split(), "--help")
    assert code == 0 and f"mlip {verb}" in said
    for key in yaml.safe_load((config.CONFIGS / f"{verb.replace(' ', '_')}.yaml").read_text()):
        assert key == "defaults" or re.search(rf"^  {key}\b", said, re.MULTILINE)
    lines = said.splitlines()
    assert len(lines) <= 100 and max(map(len, lines)) <= 120 and not re.search(r"^  \S*_target_", said, re.MULTILINE)


def test_help_of_a_group_has_the_keys_of_its_choices_with_their_comments(capsys):
    code, said = answer(capsys, "train", "--help=scheduler")
    assert code == 0 and "scheduler=cosine" in said and "warmup" in said and "_partial_" not in said
    assert "property/cost" in answer(capsys, "evaluate", "--help")[1]
    assert "timestep_fs" in answer(capsys, "evaluate", "--help=property/cost")[1]
    code, said = answer(capsys, "train", "--help=trianer")
    assert code == 2 and "has no group 'trianer'" in said and "trainer" in said


def test_help_names_all_verbs_and_all_options_of_a_group(capsys):
    assert all(verb in answer(capsys, "--help")[1] for verb in cli.VERBS)
    said = answer(capsys, "train", "--help")[1]
    assert all(path.stem in said for path in (config.CONFIGS / "experiment").glob("*.yaml"))


@pytest.mark.parametrize(
    "words, nearest",
    [
        (["train", "data.fils=a.xyz"], "data.files"),
        (["train", "data.files=a.xyz", "trainer.max_stesp=3"], "trainer.max_steps"),
        (["train", "data.files=a.xyz", "lr=0.01"], "optimizer.lr"),
        (["train", "data.files=a.xyz", "model=smal"], "small"),
        (["train", "experiment=li3incl"], "li3incl6"),
        (["trian"], "train"),
        (["train", "data.files=a.xyz", "model/head=qec"], "qeq"),
        (["train", "data.files=a.xyz", "head=qeq"], "model/head"),
        (["md", "temprature=300"], "temperature"),
        (["md", "ensemble=npd"], "npt"),
    ],
)
def test_a_typo_is_answered_by_the_nearest_word_that_exists(words, nearest, capsys):
    code, said = answer(capsys, *words)
    assert code == 2 and "did you mean" in said and nearest in said and len(said.splitlines()) == 1


def test_a_classical_potential_takes_no_head(capsys):
    code, said = answer(capsys, "train", "data.files=a.xyz", "model=buckingham", "model/head=qeq")
    assert code == 2 and "takes no head" in said and len(said.splitlines()) == 1


def test_what_must_be_given_is_asked_for(capsys):
    code, said = answer(capsys, "train")
    assert code == 2 and "data.files" in said


def test_a_missing_file_is_one_clear_line_and_leaves_nothing(capsys, tmp_path):
    code, said = answer(capsys, "train", "data.files=nowhere.xyz")
    assert code == 2 and "nowhere.xyz" in said and "Traceback" not in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["llzo", "li6ps5cl", "lips"])
def test_an_experiment_whose_data_is_not_there_says_where_it_looks(name, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MLIP_SHARED", str(tmp_path / "shared"))
    code, said = answer(capsys, "train", f"experiment={name}")
    assert code == 2 and str(tmp_path / "shared" / "data") in said and "MLIP_SHARED" in said


def groups_of(verb):
    chosen = config.compose(verb, [], [config.CONFIGS], return_hydra_config=True).hydra.runtime.choices
    return [group for group in chosen if not group.startswith("hydra")]


SHIPPED = [(verb, f"{group}={name}") for verb in ("train", "md") for group in groups_of(verb)
           for name in config.options(group, [config.CONFIGS])]  # fmt: skip


@pytest.mark.parametrize("verb, choice", SHIPPED)
def test_every_shipped_config_composes_and_names_what_exists(verb, choice):
    from hydra.utils import get_method

    cfg = config.compose(verb, [choice], [config.CONFIGS])
    for key in config.leaves(cfg):
        if key.endswith("_target_"):
            assert callable(get_method(config.OmegaConf.select(cfg, key)))


def test_own_configs_are_searched_first(tmp_path):
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    (tmp_path / "mine" / "optimizer" / "adamw.yaml").write_text("lr: 7.0\n")
    cfg = config.compose("train", ["optimizer=adamw"], [tmp_path / "mine", config.CONFIGS])
    assert cfg.optimizer == {"lr": 7.0} and cfg.model.network.cutoff > 0


def test_experiment_may_be_written_with_a_plus(capsys):
    assert "nowhere" in answer(capsys, "train", "+experiment=llzo", "data.files=nowhere.xyz")[1]


def test_a_run_leaves_its_config_metrics_logs_checkpoints_plots_and_model(run):
    for name in ("config.yaml", "metrics.csv", "metrics.json", "split.json", "model.pt", "checkpoints/last.ckpt",
                 "plots/parity.png", "plots/learning_curve.png"):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    assert list((run / "tensorboard").iterdir())
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_steps"] == 4
    assert "force_rmse_meV_per_A" in json.loads((run / "metrics.json").read_text())["test"]["total"]


def test_a_finished_run_is_not_overwritten_unless_asked(run, capsys):
    before = (run / "metrics.json").read_bytes()
    code, said = answer(capsys, "train", *TINY, f"folder={run}")
    assert code == 2 and "overwrite=true" in said and (run / "metrics.json").read_bytes() == before


def test_an_unfinished_run_goes_on_with_its_own_command_only(capsys, tmp_path):
    folder = tmp_path / "cut"
    assert answer(capsys, "train", *TINY, f"folder={folder}")[0] == 0
    whole = (folder / "metrics.csv").read_text().splitlines()
    (folder / "metrics.json").unlink()
    code, said = answer(capsys, "train", *TINY, f"folder={folder}", "optimizer.lr=0.1")
    assert code == 2 and "optimizer.lr" in said
    assert answer(capsys, "train", *TINY, f"folder={folder}")[0] == 0
    assert (folder / "metrics.csv").read_text().splitlines() == whole and (folder / "metrics.json").exists()


def test_a_folder_of_something_else_is_never_touched(capsys, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    code, _ = answer(capsys, "train", *TINY, "folder=thesis", "overwrite=true")
    assert code == 2 and (tmp_path / "thesis" / "chapter.tex").exists()


def test_a_sweep_is_one_folder_per_combination(monkeypatch):
    seen = []
    monkeypatch.setattr(
        cli.commands, "run", lambda _, cfg: seen.append((cfg.folder, cfg.seed, cfg.model.network.n_channels)) or 0
    )
    assert cli.main(["train", "-m", "data.files=a.xyz", "model=small,medium", "seed=1,2"]) == 0
    assert len({folder for folder, _, _ in seen}) == 4 and {seed for _, seed, _ in seen} == {1, 2}
    assert len({channels for _, _, channels in seen}) == 2


def test_a_head_keeps_the_network_and_a_network_keeps_the_head():
    def model(*words):
        return config.compose("train", ["data.files=a.xyz", *words], [config.CONFIGS]).model

    assert model("model/head=qeq") == model("model=qeq") == model("model/network=medium", "model/head=qeq")
    for words in (["model=small", "model/head=qeq"], ["model=qeq", "model/network=small"]):
        both = model(*words)
        assert (
            both.network == model("model=small").network
            and both.terms.electrostatics == model("model=qeq").terms.electrostatics
        )
    assert model("experiment=lips", "model/head=qeq").network == model("model=large").network
    assert model("model=small", "model/network=large") == model("experiment=lips", "model=large")


def test_a_sweep_over_heads_is_one_folder_each(monkeypatch):
    seen = []
    monkeypatch.setattr(cli.commands, "run", lambda _, cfg: seen.append((cfg.folder, list(cfg.model.terms))) or 0)
    assert cli.main(["train", "-m", "data.files=a.xyz", "model/network=small", "model/head=none,qeq"]) == 0
    terms = ["network", "repulsion", "wall"]
    assert seen == [("runs/run/head=none", terms), ("runs/run/head=qeq", [*terms, "electrostatics"])]


def test_predictions_stand_beside_the_labels_and_errors_are_told(run, capsys):
    ase.io.write("in.xyz", ase.io.read(DATA, ":5"))
    code, said = answer(capsys, "predict", f"{run}/model.pt", "in.xyz", "out.xyz")
    assert code == 0 and "RMSE" in said
    for labelled, given in zip(ase.io.read("out.xyz", ":"), ase.io.read(DATA, ":5"), strict=True):
        assert labelled.info["REF_energy"] == pytest.approx(given.get_potential_energy())
        assert abs(labelled.get_potential_energy() - given.get_potential_energy()) < 10  # eV; a hardly trained model
        assert labelled.get_forces().shape == (10, 3) and labelled.get_stress().shape == (6,)


def test_structures_without_labels_are_predicted_too(run, capsys):
    atoms = ase.io.read(DATA, "0")
    atoms.calc = None
    ase.io.write("bare.cif", atoms)
    code, said = answer(capsys, "predict", f"{run}/model.pt", "bare.cif", "out.xyz")
    assert code == 0 and "RMSE" not in said and ase.io.read("out.xyz").get_forces().shape == (10, 3)


def test_export_in_double_precision_gives_nearly_the_same_energy(run, capsys):
    before = (run / "model.pt").read_bytes()
    code, _ = answer(capsys, "export", str(run), "dtype=float64", "path=double.pt")
    assert code == 0 and (run / "model.pt").read_bytes() == before
    import mlip

    atoms = ase.io.read(DATA, "0")
    energies = []
    for path in (run / "model.pt", "double.pt"):
        atoms.calc = mlip.load_calculator(path)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-3) and energies[0] != energies[1]


def test_dynamics_from_an_exported_model(run, capsys):
    code, _ = answer(capsys, "md", f"{run}/model.pt", f"structure={DATA}", "repeat=[2,1,1]", "steps=3", "folder=md")
    assert code == 0 and any(Path("md").iterdir())


def test_the_label_doctor_leaves_a_non_zero_code_for_wrong_labels(capsys):
    frames = ase.io.read(DATA, ":6")
    ase.io.write("good.xyz", frames)
    assert answer(capsys, "data", "check", "good.xyz")[0] == 0
    frames[2].calc.results["forces"][0, 0] = float("nan")
    ase.io.write("bad.xyz", frames)
    assert answer(capsys, "data", "check", "good.xyz", "bad.xyz")[0] == 1


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "mlip", "trian"], capture_output=True, text=True)
    assert done.returncode == 2 and "there is no verb 'trian': did you mean train?" in done.stderr


def test_the_wheel_carries_the_configs_and_works_from_any_folder(tmp_path):
    builder = pytest.importorskip("hatchling.builders.wheel")
    wheel = Path(next(builder.WheelBuilder(str(CHECKOUT)).build(directory=str(tmp_path), versions=["standard"])))
    assert wheel.name.startswith("mlip_electrolytes-")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    shipped = {path.relative_to(CHECKOUT) for folder in ("configs", "mlip") for path in (CHECKOUT / folder).rglob("*.*") if
               path.suffix in (".py", ".yaml")}  # fmt: skip
    for path in shipped:
        inside = tmp_path / "site" / ("mlip" if path.parts[0] == "configs" else ".") / path
        assert inside.is_file(), path
    script = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from mlip.cli import main; sys.exit(main())"
    command = [sys.executable, "-I", "-c", script, "train", "--help"]
    said = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert said.returncode == 0 and "li3incl6" in said.stdout, said.stderr


def test_names_on_the_package_index_and_on_the_command_line():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "mlip-electrolytes" and project["scripts"] == {"mlip": "mlip.cli:main"}
