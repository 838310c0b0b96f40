"""Page of a material: what is not established first, numbers beside the literature, and whether both agree."""

import json

import numpy as np
import pytest
from ase import Atoms
from matplotlib.figure import Figure

from mlip.cli import main
from mlip.evaluation.agreement import beside
from mlip.evaluation.literature import Entry
from mlip.evaluation.material_page import transport
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section, write_section


def entry(quantity, values, unit, kind="experiment", is_range=False):
    return Entry("X", quantity, tuple(values), is_range, unit, kind, "a paper", "yes")


def energy(value, half):
    return Result("activation_energy", value, "eV", value - half, value + half, conditions={"of": "tracer_diffusivity"})


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (energy(0.30, 0.03), entry("activation_energy", [0.26], "eV"), "ours is 0.04 eV above"),
        (energy(0.30, 0.05), entry("activation_energy", [0.26], "eV"), "agree"),
        (energy(0.20, 0.02), entry("activation_energy", [0.14, 0.48], "eV"), "ours is 0.06 eV above"),
        (energy(0.20, 0.02), entry("activation_energy", [0.14, 0.48], "eV", is_range=True), "agree"),
        (Result("conductivity_extrapolated", 6e-3, "S/cm", 3e-3, 1.2e-2, conditions={"temperature_K": 300.0}),
         entry("conductivity_RT", [0.5], "mS/cm"), "ours is 12 times theirs"),
        (Result("conductivity_extrapolated", 6e-3, "S/cm", 1e-4, 0.5, conditions={"temperature_K": 300.0}),
         entry("conductivity_RT", [0.5], "mS/cm"), "agree, but ours is known to a factor of 10 at best"),
        (Result("tracer_diffusivity", 9e-6, "cm2/s", 8e-6, 1e-5, conditions={"temperature_K": 1000.0}),
         entry("diffusivity_1000K", [9.7e-6], "cm2/s"), "agree"),
        (Result("conductivity_nernst_einstein", 0.4, "S/cm", 0.3, 0.5, conditions={"temperature_K": 1000.0}),
         entry("conductivity_1000K", [0.448], "S/cm", "MD, Nernst-Einstein"), "agree"),
        (Result("B0", 126.0, "GPa", 125.0, 127.0), entry("bulk_modulus", [100], "GPa"), "ours is 1.3 times theirs"),
    ],
)  # fmt: skip
def test_agreement_is_a_common_value_of_both_intervals(ours, theirs, said):
    assert beside([ours], theirs)[1] == said


def test_what_has_no_counterpart_stands_beside_nothing():
    at_900 = Result("tracer_diffusivity", 9e-6, "cm2/s", 8e-6, 1e-5, conditions={"temperature_K": 900.0})
    limit = Result("tracer_diffusivity", None, "cm2/s", 0.0, 1e-5, "limit", conditions={"temperature_K": 1000.0})
    for results in ([], [at_900], [limit]):
        assert beside(results, entry("diffusivity_1000K", [9.7e-6], "cm2/s")) is None
    assert beside([at_900], entry("a", [12.9], "A")) is None


def folder_of(tmp_path):
    """An evaluated folder with a hop, dynamics at one temperature that was too short, and no lattice."""
    curves = {
        "t0": {
            kind: {"coordinate_A": [0, 1, 2], "energies_eV": [0, 0.2, 0], "dft_eV": [0, 0.21, 0]}
            for kind in ("fixed", "own")
        }
    }
    hop = [
        Result("barrier_dft", 0.21, "eV", conditions={"hop": "t0"}),
        Result("barrier_own", 0.2, "eV", conditions={"hop": "t0"}),
    ]
    at = {"temperature_K": 900.0}
    moved = [Result("md_time", 60, "ps", verdict="warn", notes=("not enough: 90 effective hops only",), conditions=at),
             Result("tracer_diffusivity", 2e-5, "cm2/s", 1e-5, 4e-5, "warn", ("only 90 effective hops",), at),
             Result("effective_hops", 90, "", conditions=at), energy(0.3, 0.1)]  # fmt: skip
    data = {"runs": [], "arrhenius": {}, "literature": [], "extrapolate_to_K": 300}
    for section in (
        Section("barriers", hop, {"hops": curves}),
        Section("diffusion", moved, data, ["240 atoms, 4 fs steps"]),
    ):
        write_section(tmp_path / "sections" / f"{section.name}.json", section)
    about = {
        "name": "Li3YCl6",
        "model": "model.pt",
        "left_out": {"eos": ["structure"]},
        "commands": ["mlip evaluate model.pt 'a b'"],
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(about))
    return tmp_path


def test_a_page_says_first_what_is_not_established_and_ends_with_the_commands(tmp_path):
    frame = Atoms("Cl", cell=3 * np.eye(3), pbc=True)
    frame.info.update(REF_energy=-1.0, label_seconds=1800.0)
    frame.new_array("REF_forces", np.zeros((1, 3)))
    from mlip.data.structures import write

    write(tmp_path / "labels.xyz", [frame, frame])
    (tmp_path / "why.txt").write_text("PBE *softens* it.")
    page = tmp_path / "pages" / "x.md"
    code = main(["report", str(folder_of(tmp_path)), f"page={page}", f"labels={tmp_path / 'labels.xyz'}", "literature=c-LLZO",
                 f"remarks={tmp_path / 'why.txt'}"])  # fmt: skip
    text = page.read_text()
    heads = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert code == 0
    assert heads == [
        "Not established",
        "Potential",
        "Barriers",
        "Diffusion",
        "Beside the literature",
        "Remarks",
        "Commands",
    ]
    first = text[: text.index("## Potential")]
    assert "md (" not in first and "not enough: 90 effective hops only" in first
    assert (
        "not evaluated: eos, for want of structure" in first
        and "not evaluated: lattice, for want of a command" in first
    )
    assert "| 2 of 1 atoms |" in text and "| 1 hours (2 of 2 labels say how long they took) |" in text
    assert "| t0 | 0.21 | 0.2 |" in text and "Haven" not in text
    assert "| 900 | 60 | 2×10<sup>−5</sup> [1×10<sup>−5</sup>, 4×10<sup>−5</sup>] | 90 |" in text
    assert "| activation energy | 0.3 [0.2, 0.4] | 0.26 | eV | experiment, Sakamoto" in text
    assert "PBE *softens* it." in text and "```bash\nmlip evaluate model.pt 'a b'\n```" in text
    assert main(["report", str(tmp_path), "page=x.html"]) == 2


def test_every_run_of_a_temperature_has_its_row():
    results = [Result(name, value, "", conditions={"temperature_K": t})
               for t, name, value in [(900, "md_time", 60), (800, "md_time", 50), (800, "tracer_diffusivity", 1e-5), (800, "effective_hops", 7),
                                      (800, "tracer_diffusivity", 2e-5), (800, "effective_hops", 8), (900, "tracer_diffusivity", 3e-5)]]  # fmt: skip
    rows = [line for line in transport(Section("diffusion", results, {}, [])) if line.startswith(("| 800", "| 900"))]
    assert rows == [
        "| 800 | 50 | 1×10<sup>−5</sup> | 7 |",
        "| 800 |  | 2×10<sup>−5</sup> | 8 |",
        "| 900 | 60 | 3×10<sup>−5</sup> |  |",
    ]


def test_a_page_shows_the_figures_that_the_report_has_drawn(tmp_path, monkeypatch):
    from mlip.evaluation.static.barriers import Barriers

    monkeypatch.setattr(Barriers, "figures", staticmethod(lambda data: {"parity": Figure()}))
    assert main(["report", str(folder_of(tmp_path)), f"page={tmp_path / 'pages' / 'x.md'}"]) == 0
    assert "![Barriers of hops against DFT](figures/x_barriers_parity.png)" in (tmp_path / "pages" / "x.md").read_text()
    assert (tmp_path / "pages" / "figures" / "x_barriers_parity.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "words, said",
    [
        (["page=x.txt"], "page must be a Markdown file, got x.txt: give page=x.md"),
        (["page=x.md", "remarks=gone.txt"], "no remarks at gone.txt: give a text file"),
        (["page=x.md", "compare=[a,b]"], "give the folder alone, or no page"),
    ],
)
def test_a_page_that_cannot_be_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split()) and not list(tmp_path.iterdir())
