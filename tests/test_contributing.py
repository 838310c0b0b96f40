"""The examples of CONTRIBUTING.md work: each is used as it says."""

import os
import re
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mlip import cli

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = (CHECKOUT / "CONTRIBUTING.md").read_text()
TINY = ["trainer.max_steps=2", "trainer.accelerator=cpu", "trainer.logger=null"]


@pytest.fixture(autouse=True)
def extension(tmp_path, monkeypatch):
    """A folder with my_extension.py, of all Python on the page, and my_configs with its YAML."""
    (tmp_path / "my_extension.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)))
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        path = tmp_path / text.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "my_configs" / "engine").mkdir(parents=True)
    (tmp_path / "my_configs" / "engine" / "springs.yaml").write_text("_target_: my_extension.Springs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_extension", None)


def train(*words):
    return cli.main(["train", "experiment=li3incl6", f"data.cache={Path.cwd() / 'cache'}", *TINY, *words])


def test_a_term_and_a_loss_train_and_are_exported():
    assert train("+model.terms.morse={_target_: my_extension.Morse, _partial_: true}", "model.network.n_channels=4",
                 "loss.parts.forces.penalty._target_=my_extension.LogCosh", "folder=run") == 0  # fmt: skip
    assert Path("run/model.pt").is_file()


def test_a_network_trains():
    assert train("model/network=none", "model.network._target_=my_extension.Coordination", "folder=run",
                 "+model.terms.network={_target_: mlip.models.spherical.NetworkEnergy, _partial_: true, n_hidden: 4}") == 0  # fmt: skip
    assert Path("run/model.pt").is_file()


def test_a_sampler_proposes():
    from my_extension import Rattled

    class Context:
        seed, starts = 1, [bulk("Cu", cubic=True)]

    proposal = Rattled(frames=3).propose(Context())
    moved = [np.abs(each.atoms.positions - Context.starts[0].positions).max() for each in proposal.candidates]
    assert len(moved) == 3 and min(moved) > 0 and max(moved) < 0.5


def test_an_engine_labels_and_a_property_is_reported(monkeypatch):
    atoms = bulk("Cu", cubic=True)
    ase.io.write("in.xyz", [atoms, atoms])
    monkeypatch.setenv("PYTHONPATH", f"{Path.cwd()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert cli.main(["label", "in.xyz", "out.xyz", "engine=springs", "--config-dir", "my_configs"]) == 0
    assert ase.io.read("out.xyz", 0).info["REF_energy"] == 0
    words = [
        "calculator={_target_: ase.calculators.emt.EMT}",
        "structure=in.xyz@0",
        "only=[largest_force]",
        "folder=report",
    ]
    assert cli.main(["evaluate", *words, "--config-dir", "my_configs"]) == 0
    assert "Largest force" in Path("report/report.html").read_text()
