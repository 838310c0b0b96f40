"""The page: everything inside, nothing from outside, the same again from its JSON."""

import csv
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from mlip.evaluation.comparison_page import compare, distinct, fits
from mlip.evaluation.plots import plot_arrhenius_lines
from mlip.evaluation.property import Presentation
from mlip.evaluation.report import build
from mlip.evaluation.result import Result, read_json
from mlip.evaluation.section import Section, write_section
from mlip.evaluation.static.barrier_parity import plot_parity
from mlip.evaluation.thresholds import judge


def figures(data):
    figure = Figure()
    figure.subplots().plot(data["x"])
    return {"curve_of_x": figure}


def bad_figures(data):
    raise KeyError("y")


RULES = {"accuracy": {"force_rmse": {"unit": "meV/Å", "at_most": [30, 60]}}, "cost": {}}
PROPERTIES = {"accuracy": Presentation("Accuracy <of> fit", figures, RULES["accuracy"]), "cost": Presentation("Cost")}


def folder(path, force, name="m"):
    results = [
        Result("force_rmse", force, "meV/Å", force - 1, force + 1, notes=["<script>alert(1)</script>"]),
        Result("diffusivity", None, "cm2/s", 0.0, 1e-9, "limit", ["no hop"], {"temperature_K": 600.0, "species": "Li"}),
    ]
    write_section(path / "sections" / "accuracy.json", Section("accuracy", results, {"x": [1, 3, 2]}, ["told <here>"]))
    write_section(
        path / "sections" / "cost.json",
        Section("cost", [Result("time_per_atom_step", 10 * force, "µs", conditions={"n_atoms": 8})], {}),
    )
    (path / "evaluation.json").write_text(json.dumps({"name": name, "left_out": {"eos": ["structure"]}}))
    return path


def everything(path):
    return {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_a_report_is_one_page_with_its_images_inside_and_no_word_of_the_data_is_code(tmp_path):
    build(folder(tmp_path, 20.0), PROPERTIES)
    page = (tmp_path / "report.html").read_text()
    assert 'src="data:image/png;base64,' in page and "Figure 1. Curve of x" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)|url\(|@import|https?://|<script""", page)
    assert "told &lt;here&gt;" in page and "&lt;script&gt;alert(1)" in page and "Accuracy &lt;of&gt; fit" in page
    assert "eos needs structure" in page
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "accuracy_curve_of_x.png",
        "accuracy_curve_of_x.pdf",
    }


def test_built_again_from_json_it_is_the_same_to_the_last_byte(tmp_path):
    build(folder(tmp_path, 20.0), PROPERTIES)
    first = everything(tmp_path)
    build(tmp_path, PROPERTIES)
    assert everything(tmp_path) == first


def test_every_number_is_in_the_json_and_in_the_table_with_its_section(tmp_path):
    build(folder(tmp_path, 20.0), PROPERTIES)
    results = read_json(tmp_path / "results.json")
    assert [(r.name, r.verdict, r.conditions["section"]) for r in results] == [
        ("force_rmse", "pass", "accuracy"), ("diffusivity", "limit", "accuracy"), ("time_per_atom_step", "", "cost"),
    ]  # fmt: skip
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["high"] == "1e-09" and rows[1]["temperature_K"] == "600.0" and rows[0]["section"] == "accuracy"


def test_a_figure_that_cannot_be_drawn_does_not_take_the_numbers_with_it(tmp_path):
    build(folder(tmp_path, 20.0), {"accuracy": Presentation("A", bad_figures)})
    assert "a figure could not be drawn: KeyError" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("force, verdict", [(29.9, "pass"), (30.1, "warn"), (60.1, "fail")])
def test_a_threshold_turns_a_number_into_a_verdict(force, verdict):
    section = Section("accuracy", [Result("force_rmse", force, "meV/Å")])
    assert judge([section], RULES)[0].result.verdict == verdict


@pytest.mark.parametrize("slope, verdict", [(1.04, "pass"), (0.92, "warn"), (1.45, "fail"), (-0.3, "fail")])
def test_a_threshold_around_a_number_holds_on_both_sides(slope, verdict):
    rule = {"accuracy": {"softening_slope": {"unit": "", "size_at_most": [0.05, 0.1], "around": 1.0}}}
    (row,) = judge([Section("accuracy", [Result("softening_slope", slope, "")])], rule)
    assert row.result.verdict == verdict and row.threshold == "|x - 1| ≤ 0.05 (warn 0.1)"


def test_the_worse_of_two_verdicts_stands_and_a_rule_may_hold_under_conditions_only():
    results = [Result("force_rmse", 1.0, "meV/Å", verdict="fail", conditions={"group": "all"}),
               Result("force_rmse", 99.0, "meV/Å", conditions={"group": "Li"})]  # fmt: skip
    rule = {"accuracy": {"force_rmse": {**RULES["accuracy"]["force_rmse"], "where": {"group": "all"}}}}
    assert [row.result.verdict for row in judge([Section("accuracy", results)], rule)] == ["fail", ""]


def test_a_threshold_in_another_unit_or_of_no_known_kind_is_refused():
    section = Section("accuracy", [Result("force_rmse", 1.0, "meV/Å")])
    for rule, said in (
        ({"unit": "eV/Å", "at_most": [1, 2]}, "is in 'eV/Å', the result in 'meV/Å'"),
        ({"unit": "meV/Å", "below": [1, 2]}, "must have one of at_most"),
        ({"unit": "meV/Å", "at_most": [2, 1]}, "stricter"),
        ({"unit": "meV/Å", "at_most": [1, 2], "around": 1.0}, "must have one of at_most"),
    ):
        with pytest.raises(ValueError, match=said):
            judge([section], {"accuracy": {"force_rmse": rule}})


def test_two_folders_stand_side_by_side_with_accuracy_against_cost(tmp_path):
    folders = [str(folder(tmp_path / name, force, name)) for name, force in (("one", 20.0), ("two", 50.0))]
    page = compare(folders, tmp_path / "both", PROPERTIES).read_text()
    assert "lower left is better" in page and page.count("data:image/png") == 3
    assert re.search(r"20\.?0? <small>\[19, 21\]", page) and "50 <small>[49, 51]" in page
    with open(tmp_path / "both" / "comparison.csv", newline="") as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"one", "two"}
    with pytest.raises(ValueError, match="at least two"):
        compare(folders[:1], tmp_path / "both", PROPERTIES)


def test_barriers_of_several_materials_against_dft_stand_in_one_figure(tmp_path):
    for name, ours in (("one", 0.30), ("two", 0.45)):
        folder(tmp_path / name, 20.0, name)
        fixed = {"coordinate_A": [0, 1, 2], "dft_eV": [0, 0.31, 0], "energies_eV": [0, ours, 0]}
        other = {**fixed, "dft_eV": [0, ours, 0]}  # a hop of the same name in another material
        hops = {"t0": {"fixed": fixed, "own": {"energies_eV": [0, ours, 0]}}, "t1": {}, "t2": {"fixed": other}}
        write_section(tmp_path / name / "sections" / "barriers.json", Section("barriers", [], {"hops": hops}))
    page = compare([str(tmp_path / "one"), str(tmp_path / "two")], tmp_path / "both", PROPERTIES).read_text()
    assert "Barriers against those of DFT" in page
    assert "Energy along hop t0" in page and "Energy along hop t2" not in page
    assert {path.name for path in (tmp_path / "both" / "figures").glob("*.png")} == {
        "accuracy_cost.png",
        "barrier_parity.png",
        "along_t0.png",
    }
    labels = plot_parity({"one": np.array([[0.31, 0.30]]), "two": np.array([[0.31, 0.45], [0.2, 0.2]])}).axes[0]
    assert labels.get_legend_handles_labels()[1] == ["one: MAE 10 meV, 1 hops", "two: MAE 70 meV, 2 hops"]


def test_lines_of_several_materials_stand_in_one_figure_and_named_trajectories_count(tmp_path):
    def moving(factor):
        points = [{"temperature_K": t, "value": factor * d, "low": 0.9 * factor * d, "high": 1.1 * factor * d}
                  for t, d in ((600, 1e-6), (800, 5e-6))]  # fmt: skip
        points.append({"temperature_K": 500, "value": None, "low": None, "high": factor * 1e-7})
        return {"arrhenius": {"tracer_diffusivity": {"points": points, "line": None}}}

    for name in ("one", "two"):
        folder(tmp_path / name, 20.0, name)
    both = [str(tmp_path / "one"), str(tmp_path / "two")]
    write_section(tmp_path / "one" / "sections" / "diffusion.json", Section("diffusion", [], moving(1)))
    assert "Diffusivities" not in compare(both, tmp_path / "both", PROPERTIES).read_text()  # one alone is no comparison
    for section, factor in (("diffusion", 1), ("trajectories", 7)):
        write_section(tmp_path / "two" / "sections" / f"{section}.json", Section(section, [], moving(factor)))
    assert "Diffusivities" in compare(both, tmp_path / "both", PROPERTIES).read_text()
    assert (tmp_path / "both" / "figures" / "arrhenius.pdf").is_file()
    same = [str(folder(tmp_path / name, 20.0, "same")) for name in ("one", "two")]
    assert not any(name.startswith("_") for name in distinct(["same", "same"], same))  # or a legend leaves it out
    shown = fits({"one": {"diffusion": Section("diffusion", [], moving(1))},
                  "two": {name: Section(name, [], moving(f)) for name, f in (("diffusion", 1), ("trajectories", 7))}})  # fmt: skip
    axis = plot_arrhenius_lines(shown).axes[0]
    assert axis.get_legend_handles_labels()[1] == ["one", "two"]
    drawn = [bars[0].get_ydata()[0] for bars in axis.containers]
    np.testing.assert_allclose(drawn, [1e-6, 5e-6, 7e-6, 3.5e-5])


def test_a_folder_that_was_never_evaluated_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="run mlip evaluate"):
        build(tmp_path, PROPERTIES)


def test_verdicts_at_several_temperatures_stand_in_columns_and_a_note_names_its_temperatures(tmp_path):
    results = []
    for t in (600.0, 700.0):
        where = {"species": "Li", "temperature_K": t}
        results += [
            Result("diffusivity", 1e-6 * t, "cm2/s", 1e-6, 1e-3, "warn", ["few hops"], where),
            Result("md_time", 5.0, "ps", conditions=where),
        ]
    results.append(Result("activation_energy", 0.3, "eV", 0.2, 0.4, "pass"))
    write_section(tmp_path / "sections" / "diffusion.json", Section("diffusion", results))
    build(tmp_path, {"diffusion": Presentation("Diffusion")})
    page = (tmp_path / "report.html").read_text()
    verdicts = page[: page.index("<nav>")]
    assert "<h3>Diffusion, by temperature</h3>" in verdicts
    columns, row, note = re.findall(r"<tr.*?</tr>", verdicts[verdicts.index("<h3>") :])
    assert re.findall(r">(\d+ K)<", columns) == ["600 K", "700 K"]
    assert row.count("! warn") == 2 and "0.0006<br>" in row and "0.0007<br>" in row
    assert "600, 700 K: few hops" in note
    assert verdicts.count("activation energy") == 1 and "MD time" not in verdicts and "MD time" in page
