"""The documentation is true: its executed page runs, and every page that code, configs and README cite exists."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_first_tutorial_trains_exports_runs_dynamics_and_plots(tmp_path):
    code = "\n".join(CELL.findall((CHECKOUT / "docs/tutorials/first_potential.md").read_text()))
    (tmp_path / "datasets").symlink_to(CHECKOUT / "datasets")
    done = subprocess.run(
        [sys.executable, "-c", code + "\nplt.savefig('last.png')"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "force RMSE per component" in done.stdout and "eV/atom, largest force" in done.stdout
    assert (tmp_path / "md" / "summary.json").is_file() and (tmp_path / "last.png").stat().st_size > 10_000


def test_every_page_that_is_cited_exists():
    cited = {}
    for folder in ("mlip", "configs", "scripts", "tests"):
        for path in (CHECKOUT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml"):
                cited |= dict.fromkeys(re.findall(r"\bdocs/[\w/]+\.md", path.read_text()), path)
    cited |= dict.fromkeys(re.findall(r"\bdocs/[\w/]+\.md", (CHECKOUT / "README.md").read_text()), "README.md")
    assert cited
    missing = {page: str(source) for page, source in cited.items() if not (CHECKOUT / page).is_file()}
    assert not missing


def commands_of(page):
    """Commands of mlip in the bash blocks of a page, split into words."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words[1:] for line in lines if (words := shlex.split(line, comments=True))[:1] == ["mlip"]]


@pytest.mark.parametrize("page", ["cif_to_conductivity"])
def test_every_command_of_a_tutorial_is_one_that_mlip_takes(page, monkeypatch):
    from mlip import cli

    run = []
    monkeypatch.setattr(cli.commands, "run", lambda verb, cfg: run.append(verb) or 0)
    words = commands_of(CHECKOUT / "docs" / "tutorials" / f"{page}.md")
    assert len(words) > 5
    for command in words:
        assert cli.main(command) == 0, command
    assert run == [command[0] for command in words]
