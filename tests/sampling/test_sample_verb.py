"""`mlip sample` as a person types it, and the presets of materials."""

import json
from pathlib import Path

import pytest
from ase.build import bulk
from hydra.utils import get_method, instantiate

from mlip import cli, config
from mlip.data.structures import read

CONFIGS = [config.CONFIGS]
TINY = [
    "sampler=random_md", "model=small", "model.network.n_channels=4", "model.network.l_max=1", "trainer.max_steps=4",
    "trainer.validate_every=2", "trainer.accelerator=cpu", "trainer.logger=null", "dynamics.steps=20", "dynamics.frame_every=4",
    "dynamics.temperatures_K=[300]", "dynamics.skip_ps=0", "n_initial=5", "per_round=3", "min_descriptor_distance=0.001", "n_relabelled=1",
    "n_draws=2",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bulk("Cu", cubic=True).write("cu.xyz")


def answer(capsys, *words):
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    return code, out + err


def test_a_round_from_nothing_leaves_a_model_with_uncertainty_and_is_not_repeated(capsys, tmp_path):
    words = [
        "sample",
        "cu.xyz",
        "engine=emt",
        "mobile=Cu",
        "framework=[]",
        "limits.rounds=1",
        f"data.cache={tmp_path}/cache",
        *TINY,
    ]
    code, said = answer(capsys, *words)
    assert code == 1 and "sampling ended: 1 rounds are done" in said, said[-3000:]
    folder = Path("runs/sample")
    frames = read(folder / "labelled.xyz")
    assert len(frames) == 8 and {a.info["config_type"] for a in frames} == {"start", "md"}
    import mlip

    frames[0].calc = mlip.load_calculator(folder / "rounds" / "01" / "model" / "model.pt")
    assert frames[0].calc.get_property("force_sigma", frames[0]).shape == (4,)
    warm = json.loads((folder / "rounds" / "01" / "model" / "member0" / "split.json").read_text())["frames"]
    assert len(warm["validation"]) == 2 and len(warm["train"]) == 6 and not warm["test"]
    before = {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("history.html", "lock")
    }
    assert answer(capsys, *words)[0] == 1
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path.name != "labelled.xyz")
    code, said = answer(capsys, *(word for word in words if not word.startswith("per_round")), "per_round=4")
    assert code == 2 and "begun with another per_round" in said


def test_what_is_missing_is_asked_for(capsys):
    code, said = answer(capsys, "sample", "cu.xyz", "engine=emt")
    assert code == 2 and "mlip sample needs mobile" in said
    code, said = answer(capsys, "sample", "cu.xyz", "engine=emt", "mobile=Cu", "sampler=transition_state")
    assert code == 2 and "did you mean transition_states" in said


@pytest.mark.parametrize("name", config.options("sampler", CONFIGS))
def test_every_sampler_can_be_built_and_its_kinds_have_quotas(name):
    cfg = config.compose("sample", [f"sampler={name}", "engine=emt", "structure=a.cif", "material=oxide"], CONFIGS)
    for key in config.leaves(cfg):
        if key.endswith("_target_"):
            assert callable(get_method(config.OmegaConf.select(cfg, key)))
    sampler = instantiate(cfg.sampler, _convert_="all")
    assert sum(sampler.quotas.values()) == pytest.approx(1) and all(
        hasattr(p, "propose") for p in sampler.proposers.values()
    )
    assert (sampler.window is not None) == (name in ("uncertainty", "transition_states", "on_demand"))


def test_a_material_decides_for_training_sampling_and_evaluation_alike():
    train = config.compose("train", ["data.files=a.xyz", "material=sulfide", "model=qeq"], CONFIGS)
    assert train.model.network.cutoff == 6.0 and train.loss.parts.forces.element_weights == {"Li": 2.0}
    assert train.model.terms.electrostatics.formal_charges == {"Li": 1, "S": -2}
    sample = config.compose("sample", ["engine=emt", "structure=a.cif", "material=halide"], CONFIGS)
    assert (sample.mobile, sample.framework, sample.dynamics.temperatures_K[0]) == ("Li", None, 400)
    evaluate = config.compose("evaluate", ["material=oxide"], CONFIGS)
    assert (evaluate.mobile, evaluate.charge, evaluate.temperatures_K[-1], evaluate.aimd.temperature_K) == (
        "Li",
        1,
        1400,
        800,
    )


@pytest.mark.parametrize(("old", "new"), [
    ("apart", "min_descriptor_distance"), ("control", "n_relabelled"), ("first", "n_initial"),
    ("limits.share", "limits.uncertain_fraction"),
    ("window.least", "window.min_uncertainty"), ("window.times", "window.rmse_factor"), ("window.spread", "window.upper_factor"),
    ("window.fill", "window.min_candidates_per_label"), ("given.reference", "listed_hops.reference"),
    ("sampler.proposers.pulled.steps", "sampler.proposers.steered.steps"),
    ("sampler.proposers.saddles.highest", "sampler.proposers.saddles.max_barrier_eV"),
    ("sampler.proposers.hops.most_hops", "sampler.proposers.hops.max_hops"), ("engine.level", "engine.level_of_theory"),
    ("limits.barrier_sigma", "limits.barrier_sigma_eV"), ("listed_hops.max_length", "listed_hops.max_length_A"),
])  # fmt: skip
def test_a_former_key_is_answered_with_the_key_of_today(old, new):
    with pytest.raises(ValueError, match=f"has no '{old}': did you mean .*{new}"):
        config.compose("sample", ["engine=files", f"{old}=1"], CONFIGS)


def test_without_a_material_nothing_changes_and_a_key_beats_it():
    train = config.compose("train", ["data.files=a.xyz"], CONFIGS)
    assert (
        train.model.network.cutoff == 5.0 and train.loss.parts.forces.element_weights == {} and "material" not in train
    )
    assert config.compose("evaluate", [], CONFIGS).temperatures_K == [600, 700, 800, 900, 1000]
    own = config.compose("train", ["data.files=a.xyz", "material=sulfide", "model.network.cutoff=4.5",
                                "+loss.parts.forces.element_weights.P=3.0"], CONFIGS)  # fmt: skip
    assert own.model.network.cutoff == 4.5 and own.loss.parts.forces.element_weights["P"] == 3.0


def test_what_the_benchmark_of_samplers_sets_is_taken(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(config.CONFIGS.parent / "scripts"))
    import bench_sampling

    taken = {}
    monkeypatch.setattr(cli.commands, "run", lambda verb, cfg: taken.update({cfg.sampler_name: cfg}) or 0)
    (tmp_path / "start.xyz").touch()
    assert set(bench_sampling.LESS) < set(bench_sampling.SAMPLERS) == set(config.options("sampler", CONFIGS))
    for sampler in bench_sampling.SAMPLERS:
        words = ["limits.labels=36", f"+sampler_name={sampler}"]  # as after --set: it beats what the script sets itself
        bench_sampling.sample(tmp_path, sampler, 0, "chgnet", "Li", [500], 96, words)
        cfg = taken[sampler]
        assert cfg.limits.labels == 36 and cfg.per_round == 12 and cfg.limits.rounds >= 36
        assert sampler not in bench_sampling.LESS or cfg.sampler.proposers.hops.max_hops == 4
