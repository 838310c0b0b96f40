"""Whatever a file calls its labels, they are read with the right name, unit, sign and shape."""

import ase.db
import ase.io
import lennard_jones
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mlip import keys, units
from mlip.data import structures

FORCES = np.array([[0.1, 0.2, -0.3], [-0.1, -0.2, 0.3]])
STRESS = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]]) * 1e-3


def pair(**info) -> Atoms:
    atoms = Atoms("LiCl", [[0, 0, 0], [2, 0, 0]], cell=np.diag([4.0, 5, 6]), pbc=True)
    atoms.info.update(info)
    return atoms


def calculated(**results) -> Atoms:
    atoms = pair()
    atoms.calc = SinglePointCalculator(atoms, energy=-3.5, forces=FORCES, **results)
    return atoms


def voigt():
    return np.array([1.0, 2, 3, 4, 5, 6]) * 1e-3


def assert_labelled(atoms, energy=-3.5, stress=True):
    assert atoms.info[keys.REF_ENERGY] == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(atoms.arrays[keys.REF_FORCES], FORCES, atol=1e-8)
    if stress:
        np.testing.assert_allclose(atoms.info[keys.REF_STRESS], STRESS, atol=1e-9)
    assert atoms.calc is None, "labels have one place"


@pytest.mark.parametrize("name", ["frames.extxyz", "frames.traj", "frames.db", "frames.json"])
def test_what_ase_puts_into_a_calculator_is_read_from_any_of_its_formats(tmp_path, name):
    ase.io.write(tmp_path / name, [calculated(stress=voigt())] * 2)
    frames = structures.read(tmp_path / name)
    assert len(frames) == 2
    for atoms in frames:
        assert_labelled(atoms)
    assert frames[1].info["source"].endswith(f"{name}:1")


@pytest.mark.parametrize("shape", ["voigt", "nine", "matrix"])
def test_ref_labels_win_over_a_calculators_results(tmp_path, shape):
    atoms = calculated(stress=voigt() * 7)
    atoms.calc.results["energy"] = 99.0
    atoms.calc.results["forces"] = FORCES * 5
    atoms.info["REF_energy"] = -3.5
    atoms.info["REF_stress"] = {"voigt": voigt(), "nine": STRESS.ravel(), "matrix": STRESS}[shape]
    atoms.set_array("REF_forces", FORCES)
    ase.io.write(tmp_path / "a.xyz", atoms)
    assert_labelled(structures.read(tmp_path / "a.xyz")[0])


def test_virials_become_stress_with_the_opposite_sign_per_volume(tmp_path):
    atoms = pair(energy=-3.5, virial=-STRESS.ravel() * 120.0)
    atoms.set_array("forces", FORCES)
    ase.io.write(tmp_path / "a.xyz", atoms)
    assert_labelled(structures.read(tmp_path / "a.xyz")[0])


def test_forces_of_constrained_atoms_are_kept(tmp_path):
    atoms = calculated(stress=voigt())
    atoms.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / "a.traj", atoms)
    assert_labelled(structures.read(tmp_path / "a.traj")[0])


def test_the_energy_whose_derivative_the_forces_are_is_taken(tmp_path):
    ase.io.write(tmp_path / "a.traj", calculated(free_energy=-3.6))
    assert structures.read(tmp_path / "a.traj")[0].info[keys.REF_ENERGY] == -3.6
    entry = {"path": tmp_path / "a.traj", "keys": {"energy": "energy"}}
    assert structures.read(entry)[0].info[keys.REF_ENERGY] == -3.5


def test_chosen_names_replace_labels_and_null_drops_them(tmp_path):
    atoms = calculated(stress=voigt())
    atoms.info["r2scan_energy"] = -7.0
    ase.io.write(tmp_path / "a.xyz", atoms)
    entry = {"path": tmp_path / "a.xyz", "keys": {"energy": "r2scan_energy", "forces": None, "stress": None}}
    frame = structures.read(entry)[0]
    assert frame.info[keys.REF_ENERGY] == -7.0
    assert keys.REF_FORCES not in frame.arrays and keys.REF_STRESS not in frame.info
    with pytest.raises(KeyError, match=r"no 'hse' for energy in .*a.xyz:0; found: .*r2scan_energy"):
        structures.read({**entry, "keys": {"energy": "hse"}})


def test_charges_born_charges_and_the_total_charge_have_their_shapes(tmp_path):
    atoms = calculated()
    born = np.arange(18.0).reshape(2, 9)
    atoms.set_array("bec", born)
    atoms.set_array("ref_charges", np.array([0.9, -0.9]))
    atoms.info["total_charge"] = -1
    ase.io.write(tmp_path / "a.xyz", atoms)
    frame = structures.read(tmp_path / "a.xyz")[0]
    assert frame.arrays[keys.REF_BORN_CHARGES].shape == (2, 3, 3)
    assert frame.arrays[keys.REF_BORN_CHARGES][0, 0, 1] == 1.0, "first index: polarisation, as in the file"
    assert frame.arrays[keys.REF_CHARGES].tolist() == [0.9, -0.9]
    assert frame.info[keys.TOTAL_CHARGE] == -1.0


def test_levels_names_shifts_and_slices_belong_to_a_file(tmp_path):
    ase.io.write(tmp_path / "a.xyz", [calculated() for _ in range(6)])
    entry = {"path": tmp_path / "a.xyz", "level": "pbe", "config_type": "hot", "index": "1::2",
             "energy_shift": {"Li": 1.0, "Cl": 0.25}}  # fmt: skip
    frames = structures.read([entry, {**entry, "index": -1, "level": "scf", "energy_shift": 1.0}])
    assert [a.info["level"] for a in frames] == ["pbe"] * 3 + ["scf"]
    assert {a.info["config_type"] for a in frames} == {"hot"}
    assert [a.info["source"].rsplit(":", 1)[1] for a in frames[:3]] == ["1", "3", "5"]
    assert frames[0].info[keys.REF_ENERGY] == pytest.approx(-3.5 + 1.25)
    assert frames[3].info[keys.REF_ENERGY] == pytest.approx(-3.5 + 2.0)
    with pytest.raises(KeyError, match="no value for Cl"):
        structures.read({**entry, "energy_shift": {"Li": 1.0}})


def test_files_folders_and_globs_mix(tmp_path):
    for name in ("b.xyz", "deep/c.extxyz", "deep/d.traj"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        ase.io.write(tmp_path / name, calculated())
    (tmp_path / "deep" / "slurm-1.out").write_text("no structure here")
    assert len(structures.read(tmp_path)) == 3
    assert len(structures.read([f"{tmp_path}/*.xyz", f"{tmp_path}/deep", {"path": f"{tmp_path}/**/*.traj"}])) == 4


def test_the_net_force_can_be_removed(tmp_path):
    atoms = calculated()
    atoms.calc.results["forces"] = FORCES + 0.5
    ase.io.write(tmp_path / "a.xyz", atoms)
    np.testing.assert_allclose(structures.read(tmp_path / "a.xyz")[0].arrays[keys.REF_FORCES], FORCES + 0.5, atol=1e-7)
    np.testing.assert_allclose(
        structures.read(tmp_path / "a.xyz", remove_net_force=True)[0].arrays[keys.REF_FORCES], FORCES, atol=1e-7
    )


def test_written_labels_come_back_with_predictions_beside_them(tmp_path):
    atoms = lennard_jones.crystal(repeat=1)
    atoms.arrays[keys.REF_BORN_CHARGES] = np.random.default_rng(0).normal(size=(4, 3, 3))
    atoms.info |= {"level": "lj", "config_type": "cold", "total_charge": 1.0}
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.ones((4, 3)))
    structures.write(tmp_path / "sub" / "a.xyz", [atoms])
    back = structures.read(tmp_path / "sub" / "a.xyz")[0]
    assert back.info[keys.REF_ENERGY] == pytest.approx(atoms.info[keys.REF_ENERGY], abs=1e-10)
    np.testing.assert_allclose(back.info[keys.REF_STRESS], atoms.info[keys.REF_STRESS], atol=1e-10)
    for key in (keys.REF_FORCES, keys.REF_BORN_CHARGES):
        np.testing.assert_allclose(back.arrays[key], atoms.arrays[key], atol=1e-7)
    assert (back.info["config_type"], back.info[keys.TOTAL_CHARGE]) == ("cold", 1.0)
    assert ase.io.read(tmp_path / "sub" / "a.xyz").get_potential_energy() == 1.0
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["a.xyz"], "no temporary file stays"
    assert keys.REF_FORCES in atoms.arrays, "the caller's atoms are untouched"
    with pytest.raises(ValueError, match="other formats lose labels"):
        structures.write(tmp_path / "a.cif", [atoms])


def test_errors_name_the_file_and_what_helps(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'nowhere/\*.xyz'; looked in"):
        structures.read("nowhere/*.xyz")
    with pytest.raises(KeyError, match="did you mean 'level'"):
        structures.read({"path": "a.xyz", "levle": "pbe"})
    with pytest.raises(FileNotFoundError, match="holds no structure file"):
        structures.read(tmp_path)
    ase.io.write(tmp_path / "a.xyz", [calculated()] * 3)
    text = (tmp_path / "a.xyz").read_text().splitlines()
    (tmp_path / "cut.xyz").write_text("\n".join(text[:-1]))
    with pytest.raises(ValueError, match=r"cannot read .*cut.xyz.*last complete frame"):
        structures.read(tmp_path / "cut.xyz")
    with pytest.raises(ValueError, match="'every' of .* is no slice"):
        structures.read({"path": tmp_path / "a.xyz", "index": "every"})
    bad = pair(energy=1.0, REF_stress=np.arange(5.0))
    ase.io.write(tmp_path / "bad.xyz", bad)
    with pytest.raises(ValueError, match=r"bad.xyz:0 has shape \(5,\)"):
        structures.read(tmp_path / "bad.xyz")


VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="program" type="string">vasp </i><i name="version" type="string">6.3.0 </i></generator>
 <incar><i type="int" name="NELM"> 3</i></incar>
 <kpoints><varray name="kpointlist"><v> 0.0 0.0 0.0 </v></varray><varray name="weights"><v> 1.0 </v></varray></kpoints>
 <parameters><i type="int" name="NELM"> 3</i><i type="int" name="NSW"> 1</i><i type="int" name="IBRION"> 0</i>
  <i name="NELECT"> 8.0</i><i type="int" name="ISPIN"> 1</i></parameters>
 <atominfo><atoms> 2 </atoms><types> 2 </types>
  <array name="atoms"><dimension dim="1">ion</dimension><field type="string">element</field>
   <field type="int">atomtype</field><set><rc><c>Li</c><c> 1</c></rc><rc><c>Cl</c><c> 2</c></rc></set></array>
  <array name="atomtypes"><dimension dim="1">type</dimension><field type="int">atomspertype</field>
   <field type="string">element</field><field>mass</field><field>valence</field><field type="string">pseudopotential</field>
   <set><rc><c> 1</c><c>Li</c><c> 6.9</c><c> 1.0</c><c> PAW_PBE Li 17Jan2003 </c></rc>
    <rc><c> 1</c><c>Cl</c><c> 35.5</c><c> 7.0</c><c> PAW_PBE Cl 06Sep2000 </c></rc></set></array></atominfo>
 {structure}
 {calculation}
 {final}
</modeling>
"""
CRYSTAL = """<structure{name}><crystal><varray name="basis"><v> 4.0 0.0 0.0 </v><v> 0.0 5.0 0.0 </v><v> 0.0 0.0 6.0 </v>
 </varray><i name="volume"> 120.0 </i><varray name="rec_basis"><v> 0.25 0.0 0.0 </v><v> 0.0 0.2 0.0 </v>
 <v> 0.0 0.0 0.166667 </v></varray></crystal><varray name="positions"><v> 0.0 0.0 0.0 </v><v> 0.5 0.0 0.0 </v></varray>
 </structure>"""
ENERGY = (
    '<energy><i name="e_fr_energy"> -3.5 </i><i name="e_wo_entrp"> -3.4 </i><i name="e_0_energy"> -3.45 </i></energy>'
)


def vasprun(n_scf: int = 2) -> str:
    rows = "".join(f"<v> {x:.8f} {y:.8f} {z:.8f} </v>" for x, y, z in FORCES)
    stress = "".join(f"<v> {x:.8f} {y:.8f} {z:.8f} </v>" for x, y, z in -STRESS / units.KBAR)
    steps = f"<scstep>{ENERGY}</scstep>" * n_scf
    calculation = (f'<calculation>\n{steps}{CRYSTAL.format(name="")}<varray name="forces">{rows}</varray>'
                   f'<varray name="stress">{stress}</varray>{ENERGY}\n</calculation>')  # fmt: skip
    return VASPRUN.format(structure=CRYSTAL.format(name=' name="initialpos"'), calculation=calculation,
                          final=CRYSTAL.format(name=' name="finalpos"'))  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # pymatgen warns of what a short example leaves out
@pytest.mark.parametrize("reader", ["ase", "pymatgen"])
def test_a_vasprun_gives_the_same_labels_through_ase_and_pymatgen(tmp_path, reader):
    if reader == "pymatgen":
        pytest.importorskip("pymatgen")
    (tmp_path / "vasprun.xml").write_text(vasprun())
    (tmp_path / "OUTCAR").write_text("the same run again")
    frames = structures.read({"path": tmp_path, "reader": reader})
    assert len(frames) == 1, "a run's OUTCAR is not read beside its vasprun.xml"
    assert_labelled(frames[0])


QUANTUM_ESPRESSO = """
     Program PWSCF v.6.8 starts on  1Jan2022 at  0: 0: 0

     bravais-lattice index     =            0
     lattice parameter (alat)  =       7.5589  a.u.
     unit-cell volume          =     809.8 (a.u.)^3
     number of atoms/cell      =            2
     number of atomic types    =            2
     number of electrons       =         8.00

     celldm(1)=   7.558904  celldm(2)=   0.000000  celldm(3)=   0.000000

     crystal axes: (cart. coord. in units of alat)
               a(1) = (   1.000000   0.000000   0.000000 )
               a(2) = (   0.000000   1.250000   0.000000 )
               a(3) = (   0.000000   0.000000   1.500000 )

   Cartesian axes

     site n.     atom                  positions (alat units)
         1           Li  tau(   1) = (   0.0000000   0.0000000   0.0000000  )
         2           Cl  tau(   2) = (   0.5000000   0.0000000   0.0000000  )

     number of k points=     1
                       cart. coord. in units 2pi/alat
        k(    1) = (   0.0000000   0.0000000   0.0000000), wk =   2.0000000

{scf}
!    total energy              =      -0.25724527 Ry

     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     0.00388935    0.00777869   -0.01166804
     atom    2 type  2   force =    -0.00388935   -0.00777869    0.01166804

     Computing stress (Cartesian axis) and pressure

          total   stress  (Ry/bohr**3)                   (kbar)     P=       -3.20
  -0.00001089  -0.00006535  -0.00005446           -1.60       -9.61       -8.01
  -0.00006535  -0.00002178  -0.00004357           -9.61       -3.20       -6.41
  -0.00005446  -0.00004357  -0.00003267           -8.01       -6.41       -4.81

     JOB DONE.
"""


def test_quantum_espresso_units_and_the_sign_of_its_stress(tmp_path):
    (tmp_path / "scf.pwo").write_text(QUANTUM_ESPRESSO.format(scf=""))
    frame = structures.read(tmp_path / "scf.pwo")[0]
    assert frame.info[keys.REF_ENERGY] == pytest.approx(-3.5, abs=1e-5)
    np.testing.assert_allclose(frame.arrays[keys.REF_FORCES], FORCES, atol=1e-5)
    np.testing.assert_allclose(frame.info[keys.REF_STRESS], STRESS, atol=1e-5)


GPAW = """
  ___ ___ ___ _ _ _
 |   |   |_  | | | |
 |__ |  _|___|_____|  23.9.1
 |___|_|

positions:
   0 Li     0.000000    0.000000    0.000000    ( 0.0000,  0.0000,  0.0000)
   1 Cl     2.000000    0.000000    0.000000    ( 0.0000,  0.0000,  0.0000)

Unit cell:
           periodic     x           y           z      points  spacing
  1. axis:    yes    4.000000    0.000000    0.000000    20     0.2000
  2. axis:    yes    0.000000    5.000000    0.000000    24     0.2000
  3. axis:    yes    0.000000    0.000000    6.000000    30     0.2000

Energy contributions relative to reference atoms: (reference = -1000.0)

Free energy:     -3.500000
Extrapolated:    -3.450000

Forces in eV/Ang:
  0 Li    0.10000    0.20000   -0.30000
  1 Cl   -0.10000   -0.20000    0.30000
"""


def test_gpaw_text_output_is_recognised_in_a_folder(tmp_path):
    (tmp_path / "li.txt").write_text(GPAW)
    (tmp_path / "notes.txt").write_text("remember the milk")
    assert_labelled(structures.read(tmp_path)[0], stress=False)


def test_an_index_of_ase_names_frames_of_a_file(tmp_path):
    names = {
        "frames.xyz@1": [1],
        "frames.xyz@:2": [0, 1],
        "frames.xyz@::2": [0, 2],
        "frames.xyz@-1": [2],
        "frames.xyz": [0, 1, 2],
    }
    ase.io.write(tmp_path / "frames.xyz", [Atoms("Li", info={"number": n}) for n in range(3)])
    for name, numbers in names.items():
        assert [atoms.info["number"] for atoms in structures.read(str(tmp_path / name))] == numbers, name
    with pytest.raises(FileNotFoundError, match="gone.xyz'"):
        structures.read(str(tmp_path / "gone.xyz@0"))
