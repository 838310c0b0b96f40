"""The examples of docs/howto/engines.md run as they stand."""

import importlib
import re
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk
from morse import morse_potential

from mlip.data.graph import to_graph
from mlip.export import export

PAGE = (Path(__file__).resolve().parents[1] / "docs/howto/engines.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
EXAMPLES = {
    name: code.group(1)
    for name, text in SECTIONS.items()
    if (code := re.search(r"```python\n(.*?)```", text, re.DOTALL))
}


def packages(code: str) -> set[str]:
    """What an example imports."""
    return set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))


@pytest.mark.filterwarnings("default")  # of other packages
@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, tmp_path, monkeypatch, capsys):
    for package in packages(EXAMPLES[name]):
        pytest.importorskip(package, reason=f"{package} is not installed")
    if name == "OpenMM":
        from openmmml import MLPotential

        from mlip.openmm import MlipPotentialFactory

        MLPotential.registerImplFactory("mlip", MlipPotentialFactory())  # as the entry point of an installed mlip does
    atoms = bulk("LiCl", "rocksalt", a=4.6, cubic=True)
    export(morse_potential(), tmp_path / "model.pt", {}, [to_graph(atoms, 4.0)])
    ase.io.write(tmp_path / "start.cif", atoms)
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[name], f"engines.md, {name}", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_there_are_examples():
    assert {"ASE", "torch-sim", "OpenMM"} <= EXAMPLES.keys() and all(packages(code) for code in EXAMPLES.values())
    assert importlib.import_module("mlip.ipi_driver").__file__.endswith("ipi_driver.py")
