"""Results on disk, literature values."""

import csv
import json

import pytest

from mlip.evaluation import literature
from mlip.evaluation.result import Result, read_json, write_csv, write_json

D = Result(
    "tracer_diffusivity", 1e-6, "cm2/s", 8e-7, 1.3e-6, "pass", ("slope",), {"temperature_K": 600.0, "species": "Li"}
)


def test_json_gives_back_what_was_written(tmp_path):
    limit = Result("tracer_diffusivity", None, "cm2/s", 0.0, 1e-9, "limit", ("no hop",), {"temperature_K": 300.0})
    write_json(tmp_path / "results.json", [D, limit])
    assert read_json(tmp_path / "results.json") == [D, limit]
    assert list(tmp_path.iterdir()) == [tmp_path / "results.json"]
    write_json(tmp_path / "nan.json", [Result("x", float("nan"), "")])
    assert json.loads((tmp_path / "nan.json").read_text())[0]["value"] is None


def test_csv_has_a_column_for_unit_and_conditions(tmp_path):
    write_csv(tmp_path / "results.csv", [D])
    (row,) = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert (row["unit"], row["temperature_K"], row["low"], row["notes"]) == ("cm2/s", "600.0", "8e-07", "slope")


def test_a_failed_write_leaves_the_former_file(tmp_path):
    write_json(tmp_path / "results.json", [D])
    with pytest.raises(TypeError):
        write_json(tmp_path / "results.json", [Result("x", 1.0, "", conditions={"bad": object()})])
    assert read_json(tmp_path / "results.json") == [D]
    with pytest.raises(ValueError, match="verdict of x must be one of"):
        Result("x", 1.0, "", verdict="good")


def test_the_shipped_table_is_read_with_its_ranges_and_lists():
    table = literature.read_table()
    assert len(table) > 30
    energies = [e for e in literature.read_table("c-LLZO") if e.quantity == "activation_energy"]
    assert [e.values for e in energies] == [(0.26,), (0.24, 0.26), (0.14, 0.19, 0.48), (0.278,)]
    assert [e.is_range for e in energies] == [False, True, False, False]
    room, *hot = literature.points("c-LLZO")
    assert (room.temperature_K, room.value, room.unit) == (298.15, 0.51e-3, "S/cm")
    assert {(p.temperature_K, p.unit) for p in hot} == {
        (1000.0, "cm2/s"),
        (1100.0, "cm2/s"),
        (1200.0, "cm2/s"),
        (1000.0, "S/cm"),
    }
    assert literature.points("t-LLZO")[0].value == pytest.approx(1.6e-6)
    with pytest.raises(KeyError, match="it has LGPS"):
        literature.read_table("NaCl")


def test_a_users_points_are_read_or_refused(tmp_path):
    path = tmp_path / "aimd.csv"
    path.write_text("temperature_K,value,unit,error,source\n900,1e-5,cm2/s,2e-6,AIMD\n800,5e-6,cm2/s,,AIMD\n")
    first, second = literature.read_points(path)
    assert (first.low, first.high) == pytest.approx((8e-6, 1.2e-5))
    assert second.low is None
    path.write_text("temperature_K,value,unit,error,source\n900,1e-5,m2/s,,x\n")
    with pytest.raises(ValueError, match=r"line 2: unit must be cm2/s or S/cm, got 'm2/s'"):
        literature.read_points(path)
    path.write_text("T,D\n900,1e-5\n")
    with pytest.raises(ValueError, match="lacks the columns temperature_K"):
        literature.read_points(path)
