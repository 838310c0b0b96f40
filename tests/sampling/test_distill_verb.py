"""`mlip distill`, and `mlip sample` from the student of a teacher, as a person types them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from test_sample_verb import TINY, answer

from mlip import config, keys
from mlip.data.structures import read

CHECKOUT = Path(__file__).resolve().parents[2]
TRAINING = [word for word in TINY if word.startswith(("model", "trainer"))]
SAMPLING = [word for word in TINY if word not in TRAINING]
STUDENT = [
    "distillation.frames=14", "distillation.dynamics.steps=40",
    "distillation.dynamics.frame_every=4", "distillation.dynamics.skip_ps=0", "distillation.dynamics.temperatures_K=[300,900]",
    "distillation.sampler.proposers.distorted.structures=6", "teacher=emt",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bulk("Cu", cubic=True).write("cu.xyz")


def words(tmp_path, *more):
    return ["cu.xyz", *TRAINING, *STUDENT, f"data.cache={tmp_path}/cache", *more]


def stamps(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".xyz", ".pt", ".npz", ".traj", ".ckpt")
    }


def test_a_student_learns_from_hot_runs_at_two_volumes_and_nothing_is_repeated(capsys, tmp_path):
    start = bulk("Cu", cubic=True)
    code, said = answer(capsys, "distill", *words(tmp_path, "reference=runs/distill/teacher.xyz"))
    folder = Path("runs/distill")
    assert code == 0 and "seconds per structure" in said, said[-3000:]
    assert said.split("errors of forces", 1)[1].count("meV") >= 9  # energies and forces of three rows
    labelled = read(folder / "teacher.xyz")
    assert len(labelled) == 14 and {a.info["kind"] for a in labelled} == {"md", "start"}
    volumes = {round(a.get_volume() / start.get_volume(), 3) for a in labelled if a.info["kind"] == "md"}
    assert volumes == {1.0, 1.04}
    held = json.loads((folder / "student" / "split.json").read_text())["frames"]["test"]
    assert held
    assert (folder / "student" / "evaluation" / "report.html").is_file()
    # the reference has the teacher's own labels: its slope is one
    rows = {row["name"]: row for row in json.loads((folder / "teacher_on_reference" / "results.json").read_text())}
    assert rows["softening_slope"]["value"] == pytest.approx(1, abs=1e-6)
    before = stamps(folder)
    assert answer(capsys, "distill", *words(tmp_path, "reference=runs/distill/teacher.xyz"))[0] == 0
    assert stamps(folder) == before
    code, said = answer(capsys, "distill", *words(tmp_path, "distillation.volumes=[1.0]"))
    assert code == 2 and "begun with another distillation.volumes" in said


def test_rounds_start_from_the_student_and_its_first_labels_are_frames_of_its_own(capsys, tmp_path):
    code, said = answer(
        capsys, "sample", *words(tmp_path, *SAMPLING), "engine=emt", "mobile=Cu", "framework=[]", "limits.rounds=2",
        "fine_tuning.trainer.max_steps=3"
    )  # fmt: skip
    folder = Path("runs/sample")
    assert code == 1 and "sampling ended: 2 rounds are done" in said, said[-3000:]
    assert read(folder / "labelled.xyz") and {a.info["kind"] for a in read(folder / "labelled.xyz")} == {"md"}
    first = json.loads((folder / "rounds" / "00" / "record.json").read_text())
    assert first["labels"] == 0
    for number in ("01", "02"):
        text = (folder / "rounds" / number / "model" / "member0" / "config.yaml").read_text()
        assert "checkpoint: runs/sample/teacher/student\n" in text
        tuned = config.OmegaConf.create(text)
        assert (tuned.trainer.max_steps, tuned.trainer.validate_every, tuned.optimizer.lr) == (3, 2, 0.005)
    frame = read(folder / "teacher" / "teacher.xyz")[0]
    import mlip

    frame.calc = mlip.load_calculator(folder / "rounds" / "00" / "model" / "model.pt")
    assert frame.calc.get_property("force_sigma", frame).shape == (4,)


def test_a_teacher_and_a_checkpoint_exclude_each_other(capsys, tmp_path):
    code, said = answer(
        capsys, "sample", *words(tmp_path, *SAMPLING), "engine=emt", "mobile=Cu", "checkpoint=somewhere"
    )
    assert code == 2 and "give one of both" in said


def test_a_student_runs_until_it_asks_and_its_frames_are_labelled(capsys, tmp_path):
    tiny = [word for word in words(tmp_path, *SAMPLING) if not word.startswith("sampler=")]
    code, said = answer(
        capsys, "sample", *tiny, "sampler=on_demand", "sampler.proposers.md.max_force_sigma_eV_A=1e-4", "engine=emt", "mobile=Cu", "framework=[]",
        "limits.rounds=1", "fine_tuning.trainer.max_steps=3", "sampler.window.upper_factor=1e9"
    )  # fmt: skip
    assert code == 1 and "sampling ended: 1 rounds are done" in said, said[-3000:]
    first = json.loads(Path("runs/sample/rounds/01/record.json").read_text())
    assert first["notes"] == ["300K_start0: 1 of 20 steps, then a label is asked for"]  # the perfect crystal is certain
    assert first["by_kind"] == {"md": 1, "check": 1} and first["uncertainty"]["uncertain_fraction"] == 0.5


def test_fine_tuning_holds_settings_of_a_training_only(capsys, tmp_path):
    code, said = answer(
        capsys,
        "sample",
        *words(tmp_path, *SAMPLING),
        "engine=emt",
        "mobile=Cu",
        "framework=[]",
        "+fine_tuning.folder=x",
    )
    assert code == 2 and "fine_tuning has folder" in said and not Path("runs").exists()


@pytest.mark.parametrize("name", config.options("teacher", [config.CONFIGS]))
def test_a_teacher_is_the_engine_of_its_name(name):
    taught = config.compose("distill", [f"teacher={name}"], [config.CONFIGS]).teacher
    labelled = config.compose("label", [f"engine={name}"], [config.CONFIGS]).engine
    assert config.OmegaConf.to_container(taught) == config.OmegaConf.to_container(labelled)


@pytest.mark.slow
def test_a_killed_distillation_ends_as_one_that_was_not(tmp_path):
    command = [sys.executable, "-c", "import sys; from mlip.cli import main; sys.exit(main())", "distill"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    whole = subprocess.run(
        [*command, *words(tmp_path, "folder=whole")], env=environment, capture_output=True, check=False
    )
    assert whole.returncode == 0, whole.stderr[-2000:]
    for file in ("rounds/00/selected.xyz", "teacher.xyz", "student/checkpoints/last.ckpt"):
        process = subprocess.Popen(
            [*command, *words(tmp_path, "folder=killed")], env=environment, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and not Path("killed", file).exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run([*command, *words(tmp_path, "folder=killed")], env=environment, check=False).returncode == 0
    one, other = (read(Path(folder, "teacher.xyz")) for folder in ("whole", "killed"))
    assert all(
        np.array_equal(a.arrays[keys.REF_FORCES], b.arrays[keys.REF_FORCES]) for a, b in zip(one, other, strict=True)
    )
    one, other = (json.loads(Path(folder, "student/metrics.json").read_text()) for folder in ("whole", "killed"))
    assert one["validation"]["val_loss"] == other["validation"]["val_loss"]
