"""Do energy, forces and stress belong together? Their signs and units, found from the labels alone.

Two rulers, both without a reference calculation:
- work: between two nearly equal structures in different cells, dE = -F . dr + V stress : strain;
- pair forces: a pair potential fitted to the forces predicts how energy and stress vary between frames. It is a poor
  potential, yet on ten DFT sets its stress correlates with the labels by 0.86-0.99 at a slope of 0.75-1.1: far more
  than needed to tell a sign, or eV/Å^3 from GPa.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip import keys, units
from mlip.data.graph import neighbour_vectors

N_RADIAL = 8
CUTOFF = 5.0  # Å
ENOUGH_STRESS = 4, 0.6  # comparisons and correlation from which a ratio means something
ENOUGH_ENERGY = 20, 0.9  # energies are less pairwise: LLZO reaches -0.9 with 6 frames
STRESS_FACTORS = {  # what a stress label is divided by, to be in eV/Å^3
    "eV/Å^3": 1.0,
    "GPa": units.EV_PER_A3_IN_GPA,
    "kbar": 1 / units.KBAR,
    "Ry/bohr^3": units.BOHR**3 / (units.HARTREE / 2),
    "Hartree/bohr^3": units.BOHR**3 / units.HARTREE,
}
BOTH_ATOMIC = "Hartree or Ry, and the same per bohr"
ENERGY_FACTORS = {  # energy over (force times Å)
    "eV and eV/Å": 1.0,
    "Hartree and eV/Å": 1 / units.HARTREE,
    "Ry and eV/Å": 2 / units.HARTREE,
    "eV and Hartree/bohr": units.HARTREE / units.BOHR,
    "eV and Ry/bohr": units.HARTREE / 2 / units.BOHR,
    "kcal/mol and eV/Å": 23.0605,
    BOTH_ATOMIC: 1 / units.BOHR,
}


@dataclass(frozen=True)
class Ruler:
    """A measured ratio label / expectation, its correlation, the number of comparisons, and how it was found."""

    ratio: float
    correlation: float
    n: int
    method: str

    def decides(self, enough: tuple[int, float]) -> bool:
        """Whether there are enough comparisons, correlated enough, to tell sign and unit."""
        return self.n >= enough[0] and abs(self.correlation) >= enough[1] and self.ratio != 0


def nearest_unit(ratio: float, factors: dict[str, float]) -> tuple[str, int]:
    """The unit whose factor is nearest to |ratio| (as a quotient), and the sign of the ratio."""
    return min(factors, key=lambda name: abs(np.log(abs(ratio) / factors[name]))), 1 if ratio > 0 else -1


def work_ruler(structures: Sequence[Atoms], neighbours: int = 40) -> Ruler:
    """Stress label over volume derivative: slope of V stress : strain against dE + F . dr over pairs of strained cells.

    Pairs have the same atoms in the same order, strains of 0.3-6 % and displacements (beside the strain) up to 0.1 Å,
    so that the trapezoidal rule holds.
    """
    groups = defaultdict(list)
    for atoms in structures:
        if keys.REF_STRESS in atoms.info and keys.REF_ENERGY in atoms.info and atoms.pbc.all():
            groups[atoms.numbers.tobytes()].append(atoms)
    expected, labelled = [], []
    for group in groups.values():
        cells = np.array([atoms.cell.array for atoms in group])
        scaled = [atoms.get_scaled_positions(wrap=False) for atoms in group]
        for i in range(len(group) - 1):
            strain = np.linalg.solve(cells[i], cells[i + 1 : i + 1 + neighbours]) - np.eye(3)
            strain = (strain + strain.transpose(0, 2, 1)) / 2
            size = np.abs(strain).max(axis=(1, 2))
            for near in np.flatnonzero((size > 3e-3) & (size < 0.06)):
                j = i + 1 + near
                moved = scaled[j] - scaled[i]
                moved = (moved - np.round(moved)) @ (cells[i] + cells[j]) / 2
                moved -= moved.mean(axis=0)
                if np.sqrt((moved**2).sum(axis=1).mean()) > 0.1:
                    continue
                energy, of_forces, of_stress = work_between(group[i], group[j], moved, strain[near])
                # divided by the strain: otherwise the few largest steps, with the largest error, decide alone
                expected.append((energy - of_forces) / size[near])
                labelled.append(of_stress / size[near])
    return _ruler(np.array(expected), np.array(labelled), "volume derivative of the energy")


def work_between(first: Atoms, second: Atoms, moved: np.ndarray, strain: np.ndarray) -> tuple[float, float, float]:
    """Energy difference of two labelled structures, work of the forces and of the stress between them, eV.

    Trapezoidal rule:  -(F1 + F2) / 2 . dr  and  V (s1 + s2) / 2 : strain;  zero without forces or stress.
    moved [n_atoms, 3] Å, beside the strain [3, 3]
    """
    force = sum(a.arrays.get(keys.REF_FORCES, np.zeros((len(a), 3))) for a in (first, second)) / 2
    of_stress = 0.0
    if all(keys.REF_STRESS in atoms.info for atoms in (first, second)):
        volume = (first.get_volume() + second.get_volume()) / 2
        of_stress = volume * ((first.info[keys.REF_STRESS] + second.info[keys.REF_STRESS]) / 2 * strain).sum()
    return second.info[keys.REF_ENERGY] - first.info[keys.REF_ENERGY], -(force * moved).sum(), of_stress


def pair_rulers(structures: Sequence[Atoms], n_frames: int = 32) -> tuple[Ruler, Ruler]:
    """Energy and stress labels over what a pair potential fitted to the forces predicts, as changes between frames.

    At most n_frames frames, spread evenly over the set, are used. Only changes within one composition are compared.
    """
    usable = [a for a in structures if keys.REF_FORCES in a.arrays and len(a) > 1
              and np.isfinite(a.arrays[keys.REF_FORCES]).all()]  # fmt: skip
    chosen = [usable[i] for i in np.unique(np.linspace(0, len(usable) - 1, n_frames).astype(int))] if usable else []
    square = np.mean(np.concatenate([a.arrays[keys.REF_FORCES].ravel() for a in chosen] or [np.zeros(1)]) ** 2)
    nothing = _ruler(np.empty(0), np.empty(0), "pair forces")
    if len(chosen) < 4 or square < 1e-4**2:  # eV/Å: perfect crystals have no forces to fit
        return nothing, nothing
    species = np.unique(np.concatenate([a.numbers for a in chosen]))
    terms = [_pair_terms(atoms, species) for atoms in chosen]
    weights = _fit_forces(terms, chosen)
    energies, virials = defaultdict(list), defaultdict(list)
    for atoms, (energy, _, virial) in zip(chosen, terms, strict=True):
        composition = tuple(np.bincount(np.searchsorted(species, atoms.numbers), minlength=len(species)))
        if np.isfinite(atoms.info.get(keys.REF_ENERGY, np.nan)):
            energies[composition].append((energy @ weights, atoms.info[keys.REF_ENERGY]))
        if np.isfinite(atoms.info.get(keys.REF_STRESS, np.nan)).all() and atoms.pbc.all():
            label = atoms.info[keys.REF_STRESS] * atoms.get_volume()
            virials[composition].append((virial @ weights, label.ravel()))
    of_energies, of_virials = (_ruler(*_changes(groups), "pair forces") for groups in (energies, virials))
    return of_energies, of_virials if square > 0.02**2 else nothing  # noise of relaxed crystals says nothing of stress


def _pair_terms(atoms: Atoms, species: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy [n], forces [3 n_atoms, n] and virial [9, n] of each basis pair potential (1 - r/c)^3 (c/r)^k."""
    centre, neighbour, vector = neighbour_vectors(atoms, CUTOFF)
    distance = np.linalg.norm(vector, axis=1)
    number = {pair: n for n, pair in enumerate(itertools.combinations_with_replacement(range(len(species)), 2))}
    kind = np.sort(np.searchsorted(species, atoms.numbers)[np.stack([centre, neighbour])], axis=0)
    kind = np.array([number[pair] for pair in zip(*kind.tolist(), strict=True)], dtype=int)
    x, power = np.maximum(distance, 0.5)[:, None] / CUTOFF, np.arange(N_RADIAL)
    value = (1 - x) ** 3 * x**-power  # [n_edges, n_radial]
    slope = (-3 * (1 - x) ** 2 * x**-power - power * (1 - x) ** 3 * x ** (-power - 1.0)) / CUTOFF
    unit = vector / np.maximum(distance, 0.5)[:, None]
    energy = np.zeros((len(number), N_RADIAL))
    np.add.at(energy, kind, value / 2)
    forces = np.zeros((len(atoms), 3, len(number), N_RADIAL))
    virial = np.zeros((3, 3, len(number), N_RADIAL))
    for a in range(3):
        np.add.at(forces[:, a], (centre, kind), slope * unit[:, a, None])
        for b in range(3):
            np.add.at(virial[a, b], kind, slope * (vector[:, a] * unit[:, b])[:, None] / 2)
    size = len(number) * N_RADIAL
    return energy.ravel(), forces.reshape(-1, size), virial.reshape(9, size)


def _fit_forces(terms, structures: Sequence[Atoms]) -> np.ndarray:
    gram, right = 0.0, 0.0
    for (_, forces, _), atoms in zip(terms, structures, strict=True):
        label = atoms.arrays[keys.REF_FORCES] - atoms.arrays[keys.REF_FORCES].mean(axis=0)
        gram, right = gram + forces.T @ forces, right + forces.T @ label.ravel()
    scale = np.sqrt(np.diag(gram)) + 1e-12
    values, vectors = np.linalg.eigh(gram / scale[:, None] / scale)
    kept = values > 1e-7 * values[-1]
    return vectors[:, kept] @ (vectors[:, kept].T @ (right / scale) / values[kept]) / scale


def _changes(groups) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and labelled values minus their means, within groups of at least four frames."""
    pairs = [np.array([[np.ravel(p), np.ravel(q)] for p, q in group]) for group in groups.values() if len(group) >= 4]
    pairs = [group - group.mean(axis=0) for group in pairs]  # [n_frames, 2, n_components]
    if not pairs:
        return np.empty(0), np.empty(0)
    return tuple(np.concatenate([group[:, i].ravel() for group in pairs]) for i in range(2))


def _ruler(expected: np.ndarray, labelled: np.ndarray, method: str) -> Ruler:
    both = expected @ labelled if len(expected) else 0.0
    if both == 0.0:
        return Ruler(np.nan, 0.0, len(expected), method)
    square, other = expected @ expected, labelled @ labelled
    # geometric mean of the two regressions: errors on both sides do not bias the size
    return Ruler(
        float(np.sign(both) * np.sqrt(other / square)), float(both / np.sqrt(square * other)), len(expected), method
    )
