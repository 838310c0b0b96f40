"""Equation of state: energy against volume, and its Birch-Murnaghan fit."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from scipy.optimize import curve_fit
from scipy.stats import t as student

from mlip import units
from mlip.errors import InputError
from mlip.evaluation.plots import BLUE, RED, canvas
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.static.relaxation import conditions, relax, relax_many, unconverged

FEWEST = 9
TWO_SIGMA = 0.954  # probability inside the intervals of a Result
ROUGH = 1.0  # meV/atom beside the fit: more is another minimum, a phase change or noise


@dataclass(frozen=True)
class BirchMurnaghanFit:
    """Values and errors (2 sigma) of E0 (eV), V0 (Å^3), B0 (eV/Å^3), B0'; rms of the points beside the curve (eV)."""

    values: np.ndarray
    errors: np.ndarray
    rms: float


@dataclass(frozen=True)
class EquationOfState:
    """V0, B0 and B0' from n_volumes within +-span of the relaxed volume.

    The shape of the cell is kept and the ions relax: for a crystal that is not cubic, B0 is then nearer to the Voigt
    average of the elastic tensor than to its Reuss average.
    """

    atoms: Atoms
    span: float = 0.06
    n_volumes: int = FEWEST
    fmax: float = 0.005
    steps: int = 500

    def evaluate(self, calculator) -> Section:
        """Relax the ions at every volume and fit Birch-Murnaghan."""
        if self.n_volumes < FEWEST or not 0 < self.span <= 0.2:
            raise InputError(f"an equation of state needs at least {FEWEST} volumes within at most 20 %, got {self.n_volumes} "
                             f"and {self.span}")  # fmt: skip
        start = relax(self.atoms, calculator, fmax=self.fmax, steps=self.steps)
        scales = 1 + np.linspace(-self.span, self.span, self.n_volumes)
        cells = [scaled(start.atoms, scale) for scale in scales]
        relaxed = relax_many(cells, calculator, fmax=self.fmax, steps=self.steps)
        volumes, energies = (
            np.array([each.atoms.get_volume() for each in relaxed]),
            np.array([each.energy for each in relaxed]),
        )
        notes = unconverged([start], "the cell") + unconverged(relaxed, "volumes")
        where, n = conditions(self.atoms), len(self.atoms)
        data = {"volumes_A3": volumes.tolist(), "energies_eV": energies.tolist(), "n_atoms": n}
        if not 0 < energies.argmin() < len(energies) - 1:
            notes.append(
                f"no minimum: the lowest energy is at the end of the volumes, {volumes[energies.argmin()]:.2f} Å^3"
            )
            return Section(
                "eos", [Result("B0", None, "GPa", verdict="fail", notes=notes, conditions=where)], data, notes
            )
        fitted = fit(volumes, energies)
        data["fit"] = {"values": fitted.values.tolist(), "errors": fitted.errors.tolist()}
        rough = fitted.rms / n * 1e3
        if rough > ROUGH:
            notes.append(
                f"the points lie {rough:.2f} meV/atom beside the curve: ions fell into different minima, or a phase change"
            )
        verdict = "warn" if notes else ""
        scale = (("E0", 1.0, "eV"), ("V0", 1.0, "Å^3"), ("B0", units.EV_PER_A3_IN_GPA, "GPa"), ("B0'", 1.0, ""))
        results = [Result(name, factor * value, unit, factor * (value - error), factor * (value + error), verdict, conditions=where)
                   for (name, factor, unit), value, error in zip(scale, fitted.values, fitted.errors, strict=True)]  # fmt: skip
        results.append(Result("eos_fit_rms", rough, "meV/atom", conditions=where))
        return Section("eos", results, data, notes)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot energy against volume."""
        return plot_eos(data)


def scaled(atoms: Atoms, volume: float) -> Atoms:
    """The crystal with `volume` times its volume, fractional positions kept."""
    copy = atoms.copy()
    copy.set_cell(copy.cell.array * volume ** (1 / 3), scale_atoms=True)
    return copy


def birch_murnaghan(volume: np.ndarray, e0: float, v0: float, b0: float, slope: float) -> np.ndarray:
    """E(V) = E0 + 9/8 V0 B0 x^2 (1 + (B0' - 4) x / 2),  x = (V0/V)^(2/3) - 1.  Birch, Phys. Rev. 71, 809 (1947).

    volume, v0 in Å^3, e0 in eV, b0 in eV/Å^3
    """
    x = (v0 / np.asarray(volume)) ** (2 / 3) - 1
    return e0 + 9 / 8 * v0 * b0 * x**2 * (1 + (slope - 4) * x / 2)


def fit(volumes: np.ndarray, energies: np.ndarray) -> BirchMurnaghanFit:
    """Least squares of birch_murnaghan; errors from the scatter about the curve, by Student's t (95.4 %)."""
    volumes, energies = np.asarray(volumes, float), np.asarray(energies, float)
    free = len(volumes) - 4
    if free < 1:
        raise InputError(f"a fit of four parameters needs more than four volumes, got {len(volumes)}")
    lowest, middle = energies.min(), volumes[energies.argmin()]
    curvature = 2 * np.polynomial.Polynomial.fit(volumes, energies, 2).convert().coef[2]
    start = (0.0, middle, max(curvature * middle, 1e-3), 4.0)
    values, covariance = curve_fit(birch_murnaghan, volumes, energies - lowest, p0=start, maxfev=10000)
    rms = float(np.sqrt(np.mean((birch_murnaghan(volumes, *values) - energies + lowest) ** 2)))
    errors = student.ppf(0.5 + TWO_SIGMA / 2, free) * np.sqrt(np.diag(covariance))
    return BirchMurnaghanFit(values + [lowest, 0, 0, 0], errors, rms)


def plot_eos(data: Mapping) -> dict[str, Figure]:
    """eos: energies per atom above the minimum, with the fitted curve."""
    n, volumes, energies = data["n_atoms"], np.array(data["volumes_A3"]), np.array(data["energies_eV"])
    figure, axes = canvas("volume (Å$^3$/atom)", "energy above minimum (meV/atom)")
    lowest = energies.min()
    if "fit" in data:
        values, errors = np.array(data["fit"]["values"]), np.array(data["fit"]["errors"])
        lowest, grid = values[0], np.linspace(volumes.min(), volumes.max(), 200)
        b0, error = values[2] * units.EV_PER_A3_IN_GPA, errors[2] * units.EV_PER_A3_IN_GPA
        axes.plot(grid / n, 1e3 * (birch_murnaghan(grid, *values) - lowest) / n, color=RED,
                  label=f"Birch-Murnaghan, $B_0$ = {b0:.1f} ± {error:.1f} GPa")  # fmt: skip
    axes.plot(volumes / n, 1e3 * (energies - lowest) / n, "o", color=BLUE, label="ions relaxed")
    axes.legend(frameon=False)
    return {"eos": figure}
