"""An evaluation that is cut off, changed or broken in places, with toy properties."""

from types import SimpleNamespace

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.evaluation.evaluate import evaluate, file_hashes, is_failed
from mlip.evaluation.inputs import labelled, structure
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section, read_section, section_file


def energy(calculator) -> Section:
    atoms = bulk("Cu")
    atoms.calc = calculator
    return Section("toy", [Result("energy", atoms.get_potential_energy(), "eV")], {"x": [1, 2]}, ["a note"])


def broken(calculator) -> Section:
    raise RuntimeError("no such hop")


def settings(*names, **values):
    return {name: {"subject": "EMT", "property": values} for name in names}


def toy(function):
    """A property whose evaluate is the function."""
    return SimpleNamespace(evaluate=function)


def counted(calls):
    def evaluate_and_count(calculator):
        calls.append(1)
        return energy(calculator)

    return toy(evaluate_and_count)


def test_a_finished_property_is_not_repeated(tmp_path):
    calls = []
    for _ in range(2):
        found = evaluate(EMT(), {"a.b": counted(calls)}, tmp_path, settings("a.b"))
    assert len(calls) == 1 and found["a.b"].results[0].unit == "eV" and found["a.b"].name == "a.b"
    assert read_section(section_file(tmp_path, "a.b")) == found["a.b"]


def test_other_settings_are_refused_with_their_name_until_told_to_overwrite(tmp_path):
    calls: list[int] = []
    properties = {"a": counted(calls)}
    evaluate(EMT(), properties, tmp_path, settings("a", strain=0.01))
    with pytest.raises(ValueError, match=r"property.strain 0.01, not 0.02: overwrite=true"):
        evaluate(EMT(), properties, tmp_path, settings("a", strain=0.02))
    assert len(calls) == 1
    evaluate(EMT(), properties, tmp_path, settings("a", strain=0.02), overwrite=True)
    assert len(calls) == 2


def test_a_property_that_fails_is_told_and_tried_again_while_the_others_go_on(tmp_path):
    found = evaluate(EMT(), {"bad": toy(broken), "good": toy(energy)}, tmp_path, settings("bad", "good"))
    assert is_failed(found["bad"]) and found["bad"].notes == ("no such hop",) and not is_failed(found["good"])
    assert found["bad"].results[0].verdict == "fail"
    assert "RuntimeError" in (tmp_path / "errors" / "bad.txt").read_text()
    assert not is_failed(evaluate(EMT(), {"bad": toy(energy)}, tmp_path, settings("bad"))["bad"])
    assert not (tmp_path / "errors" / "bad.txt").exists()


def test_a_property_that_is_killed_leaves_no_file_and_those_before_it_stay(tmp_path):
    def killed(calculator):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(EMT(), {"good": toy(energy), "bad": toy(killed)}, tmp_path, settings("good", "bad"))
    assert [path.name for path in (tmp_path / "sections").iterdir()] == ["good.json"]


def test_another_file_under_the_old_name_is_another_setting(tmp_path):
    path = tmp_path / "start.xyz"
    path.write_text("1")
    before = file_hashes({"property": {"file": f"{path}@3", "n": 2, "names": ["Cu"]}})
    path.write_text("2")
    after = file_hashes({"property": {"file": f"{path}@3", "n": 2, "names": ["Cu"]}})
    assert list(before) == [f"{path}@3"] and before != after


def test_inputs_are_one_structure_repeated_and_so_many_frames(tmp_path):
    from ase.io import write

    frames = [bulk("Cu", a=3.5 + 0.01 * i, cubic=True) for i in range(10)]
    write(tmp_path / "many.xyz", frames)
    assert (
        len(structure(f"{tmp_path}/many.xyz@0", (2, 1, 1))) == 8
        and len(structure(f"{tmp_path}/many.xyz", times=2)) == 32
    )
    assert [atoms.cell[0, 0] for atoms in labelled(str(tmp_path / "many.xyz"), max_frames=2)] == pytest.approx(
        [3.5, 3.59]
    )
    with pytest.raises(ValueError, match="names 10 structures"):
        structure(f"{tmp_path}/many.xyz@:")
