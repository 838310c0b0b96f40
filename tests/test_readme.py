"""What the README and the documentation say works: commands, folders, Python."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mlip import cli

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()
PAGES = "\n".join(
    [
        README,
        *(path.read_text() for path in sorted((CHECKOUT / "docs").rglob("*.md")) if "/docs/_" not in path.as_posix()),
    ]
)
LINES = list(dict.fromkeys(
    line for block in re.findall(r"```bash\n(.*?)```", PAGES, re.DOTALL) for line in block.replace("\\\n", "").splitlines()
    if line.strip() and "$" not in line  # variables of a benchmark
))  # fmt: skip


def commands(name):
    return [words for words in (shlex.split(line, comments=True) for line in LINES) if words and words[0] == name]


@pytest.mark.parametrize("words", commands("mlip"), ids=" ".join)
def test_every_mlip_command_composes(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_configs" / "experiment").mkdir(parents=True)
    (tmp_path / "my_configs" / "experiment" / "mine.yaml").write_text("# @package _global_\ndata: {files: my.xyz}\n")
    reached = []
    monkeypatch.setattr("mlip.commands.train.rank", lambda configs: None)  # of runs that are not there
    monkeypatch.setattr(cli.commands, "run", lambda verb, cfg: reached.append(verb) or 0)
    assert cli.main(words[1:]) == 0
    assert set(reached) == {" ".join(words[1:3]) if words[1] in ("data", "lammps") else words[1]}


def test_every_make_target_exists():
    targets = {word for words in commands("make") for word in words[1:] if "=" not in word}
    assert {"demo", "test", "scatter"} <= targets
    for target in targets:
        plan = subprocess.run(["make", "-n", target], cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert plan.returncode == 0, plan.stderr


def test_every_verb_of_the_command_is_described():
    assert all(re.search(f"`mlip {verb}[ `]", README) for verb in cli.VERBS)


def test_every_folder_and_file_it_names_exists():
    for name in re.findall(r"`((?:datasets|configs|docs|scripts)/[\w./-]*)`", README):
        assert (CHECKOUT / name).exists(), name


def test_the_python_example_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    words = ["experiment=li3incl6", "trainer.max_steps=2", "trainer.accelerator=cpu", "model.network.n_channels=4"]
    assert cli.main(["train", *words, f"folder={tmp_path / 'run'}"]) == 0
    (tmp_path / "run" / "model.pt").rename(tmp_path / "model.pt")
    (tmp_path / "datasets").symlink_to(CHECKOUT / "datasets")
    script = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n{blocks[0]}"
    said = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0 and "eV" in said.stdout and "(80, 3)" in said.stdout, said.stderr
