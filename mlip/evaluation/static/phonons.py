"""Phonons by finite displacements (phonopy): bands, stability, thermodynamics."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from phonopy import Phonopy
from phonopy.harmonic.dynmat_to_fc import get_commensurate_points
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import guess_primitive_matrix
from scipy.spatial.transform import Rotation

from mlip import units
from mlip.errors import InputError
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.static.field_response import field_response
from mlip.evaluation.static.phonon_figures import plot_phonons
from mlip.evaluation.static.relaxation import calculate, conditions, relax, repeats, unconverged

PLANCK = 4.135667696e-3  # eV/THz
IMAGINARY = -0.1  # THz; shallower ones at the ends of acoustic branches are interpolation and noise
NOISE = 0.01  # eV/Å^2 of the force constants, from rounding of the forces; 0.3 THz for Li in the worst case
SYMMETRY = 1e-3  # Å; a relaxed crystal is symmetric to about this
MESH = 50.0  # Å, phonopy's measure of how dense a mesh of wave vectors is
TURN = Rotation.from_rotvec((0.3, 0.5, 0.7)).as_matrix()  # any rotation: forces must turn with the crystal


@dataclass(frozen=True)
class Phonons:
    """Frequencies of the relaxed crystal, and its thermodynamics in the harmonic approximation.

    width         Å, of the supercell between opposite faces
    displacement  Å, 0.01 to 0.03; forces in float32 need the larger
    reference     another calculator (DFT), whose forces on the same displaced cells give the frequencies beside ours
    polar         longitudinal and transverse optical branches split at Gamma, by the calculator's own Born charges and
                  eps_inf (`field_response`): for models of an insulating head. The reference has the same ones
    """

    atoms: Atoms
    width: float = 10.0
    displacement: float = 0.02
    temperature_K: float = 300.0
    reference: object = None
    polar: bool = False
    fmax: float = 0.001
    steps: int = 500

    def evaluate(self, calculator) -> Section:
        """Displace atoms in a supercell and diagonalise the force constants."""
        if not 0.005 <= self.displacement <= 0.05:
            raise InputError(f"a displacement of 0.01 to 0.03 Å probes the harmonic force, got {self.displacement} Å")
        start = relax(self.atoms, calculator, fmax=self.fmax, steps=self.steps)
        notes = unconverged([start], "the cell")
        phonon = displaced(start.atoms, repeats(start.atoms.cell.array, self.width), self.displacement)
        drift = force_constants(phonon, calculator)
        if self.polar:
            born, dielectric = field_response(calculator, as_atoms(phonon.primitive))
            phonon.nac_params = {"born": born, "dielectric": dielectric, "factor": units.COULOMB}
        noise = rounding(phonon, calculator) / self.displacement
        if noise > NOISE:
            notes.append(f"rounding of the forces adds {noise:.3f} eV/Å^2 to the force constants: give a calculator in float64 "
                         "(load_calculator(dtype='float64')), or a larger displacement")  # fmt: skip
        where = {
            **conditions(start.atoms),
            "supercell_atoms": len(phonon.supercell),
            "displacement_A": self.displacement,
        }
        exact, data, (mesh, weights) = exact_frequencies(phonon), curves(phonon), on_mesh(phonon)
        lowest = min(np.min(data["bands_THz"]), mesh.min())
        verdict, sentence = stability(exact, lowest)
        notes += [sentence] if sentence else []
        results = [
            Result(
                "lowest_frequency",
                lowest,
                "THz",
                verdict=verdict,
                notes=[sentence] if sentence else [],
                conditions=where,
            ),
            Result("highest_frequency", mesh.max(), "THz", conditions=where),
            *thermal(mesh, weights, self.temperature_K, len(phonon.primitive), where),
            Result("acoustic_sum_rule_violation", drift, "eV/Å^2", conditions=where),
            Result("force_noise", noise, "eV/Å^2", conditions=where),
            Result("displaced_supercells", len(phonon.supercells_with_displacements), "", conditions=where),
        ]
        if self.polar:
            results += [
                Result("lo_to_splitting", lo_to_splitting(phonon), "THz", conditions=where),
                Result("dielectric_constant", np.trace(dielectric) / 3, "", conditions=where),
            ]
        if self.reference is not None:
            force_constants(phonon, self.reference)
            other = curves(phonon)
            data |= {
                "bands_reference_THz": other["bands_THz"],
                "dos_reference_THz": other["dos_THz"],
                "dos_reference": other["dos"],
            }
            beside = exact - exact_frequencies(phonon)
            results += [
                Result("frequency_rmse", np.sqrt(np.mean(beside**2)), "THz", conditions=where),
                Result("frequency_bias", beside.mean(), "THz", conditions=where),
            ]
        return Section("phonons", results, data, notes)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot bands and density of states."""
        return plot_phonons(data)


def displaced(atoms: Atoms, repeat: tuple[int, int, int], displacement: float) -> Phonopy:
    """The crystal with the displacements that its symmetry leaves to calculate."""
    cell = PhonopyAtoms(numbers=atoms.numbers, cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions())
    primitive = guess_primitive_matrix(cell, symprec=SYMMETRY)
    phonon = Phonopy(cell, supercell_matrix=np.diag(repeat), primitive_matrix=primitive, symprec=SYMMETRY)
    phonon.generate_displacements(distance=displacement)
    return phonon


def force_constants(phonon: Phonopy, calculator) -> float:
    """Sets them from the calculator's forces; returns how far they were from the acoustic sum rule, eV/Å^2."""
    cells = [as_atoms(cell) for cell in [phonon.supercell, *phonon.supercells_with_displacements]]
    still, *moved = (atoms.get_forces() for atoms in calculate(calculator, cells))
    phonon.forces = [forces - still for forces in moved]  # a reference is not at its own minimum
    phonon.produce_force_constants(calculate_full_force_constants=True)
    # over the atoms that were moved; over those that feel it, Newton's third law makes it zero whatever the rounding
    drift = float(np.abs(phonon.force_constants.sum(axis=0)).max())
    phonon.symmetrize_force_constants()
    return drift


def rounding(phonon: Phonopy, calculator) -> float:
    """Largest change of a force when the whole crystal is turned, eV/Å: zero but for the calculator's arithmetic.

    A shift would not show it where distances are taken in float64 and the network works in float32.
    """
    here = as_atoms(phonon.supercells_with_displacements[0])
    there = here.copy()
    there.set_cell(here.cell.array @ TURN.T, scale_atoms=True)
    one, other = calculate(calculator, [here, there])
    return float(np.abs(other.get_forces() @ TURN - one.get_forces()).max())


def as_atoms(cell: PhonopyAtoms) -> Atoms:
    """phonopy's structure as ASE's."""
    return Atoms(cell.numbers, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)


def exact_frequencies(phonon: Phonopy) -> np.ndarray:
    """At the wave vectors that fit into the supercell, where nothing is interpolated, [n_q, n_bands] THz.

    The three acoustic modes at Gamma are left out of the first row (NaN would spread; they are set to their exact zero).
    """
    fits = np.rint(np.linalg.inv(phonon.primitive_matrix) @ phonon.supercell_matrix).astype(int)
    points = get_commensurate_points(fits)
    frequencies = at(phonon, points)
    gamma = int(np.abs(points - np.rint(points)).sum(axis=1).argmin())
    acoustic = np.abs(frequencies[gamma]).argsort()[:3]
    frequencies[gamma, acoustic] = 0.0
    return frequencies


def at(phonon: Phonopy, points: np.ndarray) -> np.ndarray:
    """Frequencies at wave vectors (reduced coordinates of the primitive cell), [n_q, n_bands] THz; imaginary negative."""
    phonon.run_qpoints(points)
    return np.array(phonon.qpoints.frequencies)


def lo_to_splitting(phonon: Phonopy) -> float:
    """Largest rise of a frequency at Gamma by the field of its own wave, over three directions of approach, THz.

    The non-analytic term (4 pi k_e / V) (q.Z*_i)_a (q.Z*_j)_b / (q.eps.q), R. M. Pick et al., Phys. Rev. B 1, 910 (1970).
    """
    phonon.run_qpoints([[0, 0, 0]])
    transverse = np.sort(phonon.qpoints.frequencies[0])
    rises = []
    for direction in np.eye(3):
        phonon.run_qpoints([[0, 0, 0]], nac_q_direction=direction)
        rises.append(np.max(np.sort(phonon.qpoints.frequencies[0]) - transverse))
    return float(max(rises))


def on_mesh(phonon: Phonopy) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies [n_q, n_bands] THz and weights [n_q] on an even mesh of wave vectors."""
    phonon.run_mesh(MESH)
    return np.array(phonon.mesh.frequencies), np.array(phonon.mesh.weights)


def curves(phonon: Phonopy, n_points: int = 120) -> dict:
    """Bands along the standard path (Setyawan and Curtarolo 2010, by ASE) and density of states."""
    path = as_atoms(phonon.primitive).cell.bandpath(npoints=n_points, eps=1e-3)
    distance, ticks, labels = path.get_linear_kpoint_axis()
    phonon.run_mesh(MESH)
    phonon.run_total_dos(use_tetrahedron_method=False)
    dos = phonon.total_dos
    return {
        "path": distance.tolist(), "ticks": ticks.tolist(), "labels": list(labels),
        "bands_THz": np.round(at(phonon, path.kpts), 3).tolist(),
        "dos_THz": np.round(dos.frequency_points, 4).tolist(), "dos": np.round(dos.dos, 5).tolist(),
    }  # fmt: skip


def stability(exact: np.ndarray, lowest: float) -> tuple[str, str]:
    """Verdict and sentence on imaginary frequencies (written as negative), exact and lowest interpolated ones, THz."""
    if exact.min() < IMAGINARY:
        return "fail", (f"imaginary frequency, {-exact.min():.2f}i THz, in {int((exact < IMAGINARY).sum())} modes of the "
                        "supercell: the relaxed crystal is a saddle, or held up by temperature or disorder")  # fmt: skip
    if lowest < IMAGINARY:
        return (
            "warn",
            f"imaginary frequency, {-lowest:.2f}i THz, between the wave vectors of the supercell: give a larger width",
        )
    return "pass", ""


def harmonic(frequencies: np.ndarray, weights: np.ndarray, temperature: float) -> tuple[float, float, float]:
    """Free energy (eV), entropy (eV/K) and heat capacity (eV/K) of a primitive cell.

    F = sum h nu / 2 + k T ln(1 - exp(-x)),  Cv = k x^2 e^x / (e^x - 1)^2,  x = h nu / k T
    frequencies  [n_q, n_bands] THz; those not above zero are left out;  weights  [n_q]
    """
    heat = units.BOLTZMANN * temperature
    share = np.broadcast_to(weights[:, None] / weights.sum(), frequencies.shape)[frequencies > 1e-3]
    energy = PLANCK * frequencies[frequencies > 1e-3]
    x = energy / heat
    free = float((share * (energy / 2 + heat * np.log1p(-np.exp(-x)))).sum())
    capacity = float((share * units.BOLTZMANN * x**2 * np.exp(-x) / np.expm1(-x) ** 2).sum())
    inner = float((share * energy * (0.5 + 1 / np.expm1(x))).sum())
    return free, (inner - free) / temperature, capacity


def thermal(
    frequencies: np.ndarray, weights: np.ndarray, temperature: float, n_atoms: int, where: Mapping
) -> list[Result]:
    """Per atom, at one temperature; a note if imaginary modes are missing in it."""
    if not temperature > 0:
        raise InputError(f"the temperature must be positive, got {temperature} K")
    free, entropy, capacity = (value / n_atoms for value in harmonic(frequencies, weights, temperature))
    lost = float(((frequencies < IMAGINARY) * weights[:, None]).sum() / (weights.sum() * frequencies.shape[1]))
    notes = [f"{lost:.1%} of the modes are imaginary and left out"] if lost > 0 else []
    at_T, verdict = {**where, "temperature_K": temperature}, "warn" if notes else ""
    return [
        Result("vibrational_free_energy", 1e3 * free, "meV/atom", None, None, verdict, notes, at_T),
        Result("vibrational_entropy", entropy / units.BOLTZMANN, "k_B/atom", None, None, verdict, notes, at_T),
        Result("heat_capacity", capacity / units.BOLTZMANN, "k_B/atom", None, None, verdict, notes, at_T),
    ]
