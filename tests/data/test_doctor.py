"""The doctor finds what was broken on purpose, and nothing in good data."""

import copy
from pathlib import Path

import ase.io
import lennard_jones
import numpy as np
import pytest
from rich.console import Console

from mlip import keys, units
from mlip.data import convergence, doctor, structures
from mlip.data.consistency import pair_rulers, work_ruler

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
GOOD = lennard_jones.crystals(24)


def frames():
    return copy.deepcopy(GOOD)


def found(tmp_path, broken, severity="error", **settings):
    """Names of the checks with findings of that severity on these frames."""
    structures.write(tmp_path / "a.xyz", broken)
    findings = doctor.check(str(tmp_path / "a.xyz"), **settings)
    assert doctor.has_errors(findings) == any(f.severity == "error" for f in findings)
    Console(quiet=True).print(doctor.table(findings))
    return {f.check for f in findings if f.severity == severity}


def test_good_frames_have_neither_errors_nor_warnings(tmp_path):
    assert found(tmp_path, frames()) == set()
    assert found(tmp_path, frames(), "warn") == set()
    assert "stress sign and unit" in found(tmp_path, frames(), "ok")


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(-1.0, {"stress sign"}), (units.EV_PER_A3_IN_GPA, {"stress unit"}), (1 / units.KBAR, {"stress unit"}),
     (-units.EV_PER_A3_IN_GPA, {"stress sign", "stress unit"})],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["rattled at one volume", "static cells"])
def test_stress_of_the_wrong_sign_or_unit_is_told_at_fixed_and_at_changing_volume(tmp_path, factor, expected, kind):
    broken = (lennard_jones.crystals(16, strain=0.0) if kind == "rattled at one volume" else
              lennard_jones.crystals(16, rattle=0.0, strain=0.03, repeat=1))  # fmt: skip
    assert found(tmp_path, broken) == set()
    for atoms in broken:
        atoms.info[keys.REF_STRESS] = atoms.info[keys.REF_STRESS] * factor
    assert found(tmp_path, broken) == expected


@pytest.mark.parametrize("where", ["forces", "energy"])
def test_energies_in_hartree_or_gradients_instead_of_forces_are_told(tmp_path, where):
    broken = frames()
    for atoms in broken:
        if where == "forces":
            atoms.arrays[keys.REF_FORCES] *= -1
            del atoms.info[keys.REF_STRESS]
        else:
            atoms.info[keys.REF_ENERGY] /= units.HARTREE
    assert ("force sign" if where == "forces" else "energy and force units") in found(tmp_path, broken)


def test_one_energy_for_many_structures_is_an_error(tmp_path):
    """As a frame's label that travels along a trajectory."""
    broken = frames()
    for atoms in broken[4:8]:
        atoms.info[keys.REF_ENERGY] = broken[4].info[keys.REF_ENERGY]
    assert "energy" in found(tmp_path, broken)


def test_rulers_measure_one_on_exact_labels():
    energy, stress = pair_rulers(GOOD)
    assert energy.ratio == pytest.approx(1, abs=0.1) and energy.correlation > 0.99
    assert stress.ratio == pytest.approx(1, abs=0.05) and stress.correlation > 0.99
    work = work_ruler(lennard_jones.crystals(10, rattle=0.0, repeat=1))
    assert work.ratio == pytest.approx(1, abs=0.2) and work.correlation > 0.99


def break_nan_force(f):
    f[3].arrays[keys.REF_FORCES][0, 0] = np.nan


def break_overlap(f):
    f[3].positions[1] = f[3].positions[0] + [0.2, 0, 0]


def break_cell(f):
    f[3].cell[2] = f[3].cell[1]


def break_contradiction(f):
    f.append(f[0].copy())
    f[-1].info[keys.REF_ENERGY] += 1.0


def break_huge_force(f):
    f[3].arrays[keys.REF_FORCES][:2] = [[500.0, 0, 0], [-500.0, 0, 0]]


def break_net_force(f):
    f[3].arrays[keys.REF_FORCES] += 5.0


def break_everything_unlabelled(f):
    for atoms in f:
        del atoms.info[keys.REF_ENERGY], atoms.arrays[keys.REF_FORCES]


@pytest.mark.parametrize(
    ("damage", "check"),
    [(break_nan_force, "labels"), (break_overlap, "distances"), (break_cell, "geometry"),
     (break_contradiction, "duplicates"), (break_huge_force, "forces"), (break_net_force, "net force"),
     (break_everything_unlabelled, "labels")],
)  # fmt: skip
def test_a_broken_frame_is_an_error(tmp_path, damage, check):
    broken = frames()
    damage(broken)
    assert check in found(tmp_path, broken)


def break_small_net_force(f):
    f[3].arrays[keys.REF_FORCES] += 0.2 / 32


def break_missing_forces(f):
    del f[3].arrays[keys.REF_FORCES]


def break_outlier(f):
    f[3].arrays[keys.REF_FORCES][:2] += [[150.0, 0, 0], [-150.0, 0, 0]]


def break_energy(f):
    f[3].info[keys.REF_ENERGY] += 100.0


def break_repeat(f):
    f.append(f[0].copy())


def break_symmetry(f):
    f[3].info[keys.REF_STRESS][0, 1] += 0.1


def break_short(f):
    f[3].positions[1] = f[3].positions[0] + [0.9, 0, 0]


@pytest.mark.parametrize(
    ("damage", "check"),
    [(break_small_net_force, "net force"), (break_missing_forces, "labels"), (break_outlier, "forces"),
     (break_energy, "energy"), (break_repeat, "duplicates"), (break_symmetry, "labels"), (break_short, "distances")],
)  # fmt: skip
def test_a_doubtful_frame_is_a_warning(tmp_path, damage, check):
    doubtful = frames()
    damage(doubtful)
    assert found(tmp_path, doubtful) == set()
    assert check in found(tmp_path, doubtful, "warn")


def test_removing_the_net_force_mends_that_warning(tmp_path):
    doubtful = frames()
    break_small_net_force(doubtful)
    assert found(tmp_path, doubtful, "warn", remove_net_force=True) == set()


def test_files_with_different_references_should_be_different_levels(tmp_path):
    structures.write(tmp_path / "a.xyz", GOOD[:12])
    shifted = frames()[12:]
    for atoms in shifted:
        atoms.info[keys.REF_ENERGY] -= 5.0 * len(atoms)
    structures.write(tmp_path / "b.xyz", shifted)
    names = [str(tmp_path / "a.xyz"), str(tmp_path / "b.xyz")]
    assert "energy reference" in {f.check for f in doctor.check(names) if f.severity == "warn"}
    levels = [{"path": name, "level": name[-5]} for name in names]
    assert "energy reference" not in {f.check for f in doctor.check(levels)}


def test_elements_of_the_held_out_part_must_be_trained(tmp_path):
    broken = frames()
    for atoms in broken[:3]:
        atoms.symbols[0] = "Kr"
        atoms.info["config_type"] = "krypton"
    assert "elements" in found(tmp_path, broken, split={"test": ["krypton"]})
    assert "elements" not in found(tmp_path, broken, split={"test": 0.1})


def test_a_file_that_cannot_be_read_is_a_finding_and_the_others_are_examined(tmp_path):
    structures.write(tmp_path / "good.xyz", GOOD)
    (tmp_path / "cut.xyz").write_text("\n".join((tmp_path / "good.xyz").read_text().splitlines()[:-4]))
    (tmp_path / "empty.xyz").write_text("")
    findings = doctor.check(
        [str(tmp_path / "good.xyz"), str(tmp_path / "cut.xyz"), str(tmp_path / "empty.xyz"), "none"]
    )
    assert {Path(f.file).name for f in findings if f.check == "reading"} == {"cut.xyz", "empty.xyz", "none"}
    assert any(f.check == "stress sign and unit" and f.file.endswith("good.xyz") for f in findings)


def outcar(iterations: int, last_line: str) -> str:
    steps = "".join(f"--- Iteration    1({i:4d})  ---\n" for i in range(1, iterations + 1))
    return f"   NELM   =     20;   NELMIN=  2; NELMDL= -5\n{steps}{last_line}\n--- Iteration    2(   1)  ---\n"


@pytest.mark.parametrize(
    ("name", "text", "steps"),
    [
        ("OUTCAR", outcar(8, "------ aborting loop because EDIFF is reached ------"), []),
        ("OUTCAR", outcar(20, "------ aborting loop because EDIFF is reached ------"), []),
        ("OUTCAR", outcar(20, "------ aborting loop ------"), [0]),
        ("OUTCAR", outcar(20, "------ aborting loop EDIFF was not reached (unconverged) ------"), [0]),
        ("vasprun.xml", ('<i type="int" name="NELM">  2</i>\n<calculation>\n<scstep>\n<scstep>\n</calculation>\n'
                        "<calculation>\n<scstep>\n</calculation>\n"), [0]),
        ("scf.pwo", "     convergence has been achieved in  11 iterations\n", []),
        ("scf.pwo", "     convergence NOT achieved after 100 iterations: stopping\n", [1]),
        ("cp2k.out", " *** SCF run NOT converged\n", [1]),
    ],
)  # fmt: skip
def test_an_unconverged_electronic_cycle_is_told_where_the_file_tells(tmp_path, name, text, steps):
    (tmp_path / name).write_text(text)
    assert convergence.unconverged(str(tmp_path / name)) == steps


@pytest.mark.parametrize("name", ["li3incl6_gpaw", "li3n_pbe_static", "li3ps4_pbesol", "lips_li675p3s11"])
def test_no_false_alarm_on_real_data_and_a_flipped_stress_is_found(tmp_path, name):
    path = SHARED / f"{name}.xyz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    findings = doctor.check(str(path))
    assert not doctor.has_errors(findings), findings
    read = structures.read(path)
    if keys.REF_STRESS not in read[0].info:
        return
    for factor, check in ((-1.0, "stress sign"), (units.EV_PER_A3_IN_GPA, "stress unit")):
        broken = copy.deepcopy(read)
        for atoms in broken:
            atoms.info[keys.REF_STRESS] = atoms.info[keys.REF_STRESS] * factor
        assert check in found(tmp_path, broken)


def test_the_shipped_set_is_sound():
    path = Path(__file__).resolve().parents[2] / "datasets" / "li3incl6" / "li3incl6_gpaw.xyz"
    findings = doctor.check(str(path))
    assert {f.severity for f in findings if f.check != "convergence"} == {"ok"}  # extxyz does not say
    assert len(ase.io.read(path, ":")) == 148
