"""VASP: inputs that can be run, outputs that are trusted only when they are right. No VASP is needed."""

import stat
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlip import cli, keys, units
from mlip.errors import LabellingError
from mlip.labelling.engine import LabelPending, label_id, settings_hash
from mlip.labelling.vasp import VaspEngine

pytest.importorskip("pymatgen")
pytestmark = pytest.mark.filterwarnings("ignore")  # pymatgen's and spglib's own

FORCES = np.array([[0.1, -0.2, 0.3], [-0.4, 0.5, -0.6], [0.3, -0.3, 0.3]])  # eV/Å, in the order of the POSCAR: Li Li Cl
STRESS = np.array([[0.01, 0.002, 0.003], [0.002, -0.02, 0.004], [0.003, 0.004, 0.03]])  # eV/Å^3
ENERGY = (
    '<energy><i name="e_fr_energy"> -3.5 </i><i name="e_wo_entrp"> -3.4 </i><i name="e_0_energy"> -3.45 </i></energy>'
)
VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="program" type="string">vasp </i><i name="version" type="string">6.3.0 </i></generator>
 <incar><i type="int" name="NELM"> 3</i></incar>
 <kpoints><varray name="kpointlist"><v> 0.0 0.0 0.0 </v></varray><varray name="weights"><v> 1.0 </v></varray></kpoints>
 <parameters><i type="int" name="NELM"> 3</i><i type="int" name="NSW"> 0</i><i type="int" name="IBRION"> -1</i>
  <i name="NELECT"> 9.0</i><i type="int" name="ISPIN"> 1</i></parameters>
 <atominfo><atoms> 3 </atoms><types> 2 </types>
  <array name="atoms"><dimension dim="1">ion</dimension><field type="string">element</field><field type="int">atomtype</field>
   <set><rc><c>Li</c><c> 1</c></rc><rc><c>Li</c><c> 1</c></rc><rc><c>Cl</c><c> 2</c></rc></set></array>
  <array name="atomtypes"><dimension dim="1">type</dimension><field type="int">atomspertype</field>
   <field type="string">element</field><field>mass</field><field>valence</field><field type="string">pseudopotential</field>
   <set><rc><c> 2</c><c>Li</c><c> 6.9</c><c> 1.0</c><c> PAW_PBE Li 17Jan2003 </c></rc>
    <rc><c> 1</c><c>Cl</c><c> 35.5</c><c> 7.0</c><c> PAW_PBE Cl 06Sep2000 </c></rc></set></array></atominfo>
 <structure name="initialpos">{crystal}</structure>
<calculation>
 {steps}<structure>{crystal}</structure><varray name="forces">{forces}</varray><varray name="stress">{stress}</varray>{energy}
</calculation>
 <structure name="finalpos">{crystal}</structure>
</modeling>
"""


def salt():
    """Li Cl Li: its elements are not together."""
    return Atoms("LiClLi", [[0, 0, 0], [2, 0, 0], [0, 2.5, 3]], cell=[4, 5, 6], pbc=True)


def vasprun(steps=2, shift=0.0):
    """The output of a run of `salt`, with NELM = 3."""
    rows = lambda matrix: "".join(f"<v> {x:.8f} {y:.8f} {z:.8f} </v>" for x, y, z in matrix)
    scaled = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5 + shift, 0, 0]])
    crystal = (f'<crystal><varray name="basis">{rows(np.diag([4.0, 5, 6]))}</varray><i name="volume"> 120.0 </i>'
               f'<varray name="rec_basis">{rows(np.diag([1 / 4, 1 / 5, 1 / 6]))}</varray></crystal>'
               f'<varray name="positions">{rows(scaled)}</varray>')  # fmt: skip
    return VASPRUN.format(crystal=crystal, steps=f"<scstep>{ENERGY}</scstep>" * steps, energy=ENERGY, forces=rows(FORCES),
                          stress=rows(-STRESS / units.KBAR))  # fmt: skip


def input_set(**settings):
    from pymatgen.io.vasp.sets import MPStaticSet

    return partial(
        MPStaticSet, user_incar_settings={"ENCUT": 520, **settings}, user_kpoints_settings={"reciprocal_density": 64}
    )


@pytest.fixture
def no_potentials(monkeypatch):
    from pymatgen.core import SETTINGS

    monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR", raising=False)


def test_inputs_are_written_without_potentials_and_say_how_to_get_them(tmp_path, no_potentials):
    engine = VaspEngine(str(tmp_path), input_set(NELM=77))
    with pytest.raises(LabelPending, match=r"without POTCAR .*PMG_VASP_PSP_DIR.*POTCAR.spec"):
        engine.label(salt())
    place = tmp_path / label_id(salt(), engine)
    assert "ENCUT = 520" in (place / "INCAR").read_text() and "NELM = 77" in (place / "INCAR").read_text()
    poscar = (place / "POSCAR").read_text().splitlines()
    assert poscar[5].split() == ["Li", "Cl"] and poscar[6].split() == ["2", "1"], "atoms of an element stand together"
    assert (place / "POTCAR.spec").read_text().split()[1].startswith("Cl") and (place / "KPOINTS").is_file()
    with pytest.raises(LabellingError, match="without POTCAR") as told:
        VaspEngine(str(tmp_path / "run"), input_set(), command="vasp_std").label(salt())
    assert not isinstance(told.value, LabelPending), "nothing is run without potentials"
    assert settings_hash(engine) != settings_hash(VaspEngine(str(tmp_path), input_set(NELM=78)))


def test_labels_come_back_in_the_order_of_the_structure_with_ases_sign_of_stress(tmp_path, no_potentials):
    engine = VaspEngine(str(tmp_path), input_set())
    with pytest.raises(LabelPending):
        engine.label(salt())
    output = tmp_path / label_id(salt(), engine) / "vasprun.xml"
    output.write_text(vasprun())
    labelled = engine.label(salt())
    assert labelled.info[keys.REF_ENERGY] == -3.5, "the free energy, whose derivative the forces are"
    np.testing.assert_allclose(labelled.arrays[keys.REF_FORCES], FORCES[[0, 2, 1]])
    np.testing.assert_allclose(labelled.info[keys.REF_STRESS], STRESS, atol=1e-8)
    np.testing.assert_array_equal(labelled.positions, salt().positions)


@pytest.mark.parametrize(("text", "told"), [
    (vasprun(steps=3), "did not reach EDIFF within NELM"),
    (vasprun(shift=0.01), "is not the run of this structure: atoms lie up to 0.04 Å"),
    (vasprun().replace("</modeling>", ""), "not complete"),
    (vasprun().replace("</calculation>", "<calculation>"), "cannot be read"),
], ids=["unconverged", "another structure", "cut off", "broken"])  # fmt: skip
def test_an_output_that_cannot_be_trusted_is_refused_with_the_reason(tmp_path, no_potentials, text, told):
    engine = VaspEngine(str(tmp_path), input_set())
    place = tmp_path / label_id(salt(), engine)
    place.mkdir()
    (place / "vasprun.xml").write_text(text)
    with pytest.raises(LabellingError, match=told):
        engine.label(salt())


def test_a_given_command_runs_in_the_folder_and_its_failure_is_quoted(tmp_path, no_potentials):
    """A shell script plays VASP; the POTCAR lies there, put by hand."""
    fake, answer = tmp_path / "fake_vasp", tmp_path / "answer.xml"
    answer.write_text(vasprun())
    fake.write_text(f"#!/bin/sh\ntest -f POSCAR && cp {answer} vasprun.xml\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    for command, told in ((str(fake), None), ("sh -c 'echo ZBRENT; exit 3'", r"ended with 3 .*ZBRENT"),
                          (f"{tmp_path}/no_vasp", "cannot be started"), ("true", "left neither")):  # fmt: skip
        engine = VaspEngine(str(tmp_path / f"runs{len(command)}"), input_set(), command)
        place = Path(engine.folder) / label_id(salt(), engine)
        place.mkdir(parents=True)
        (place / "POTCAR").write_text("by hand")
        if told is None:
            assert engine.label(salt()).info[keys.REF_ENERGY] == -3.5
        else:
            with pytest.raises(LabellingError, match=told):
                engine.label(salt())


def test_charged_cells_are_refused(tmp_path):
    charged = salt()
    charged.info[keys.TOTAL_CHARGE] = 1.0
    with pytest.raises(LabellingError, match="NELECT"):
        VaspEngine(str(tmp_path), input_set()).label(charged)


def test_the_command_writes_inputs_from_the_config(tmp_path, monkeypatch, capsys, no_potentials):
    from mlip.data.structures import write

    write(tmp_path / "in.xyz", [salt()])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "900")
    words = ["label", "in.xyz", "out.xyz", "engine=vasp", "engine.input_set.user_incar_settings.ENCUT=450"]
    assert cli.main(words) == 1 and "run VASP in each folder" in capsys.readouterr().out
    (incar,) = Path("out.xyz.labels/vasp").glob("*/INCAR")
    assert "ENCUT = 450" in incar.read_text() and "MAGMOM" not in incar.read_text()
