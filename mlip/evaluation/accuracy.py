"""Accuracy of fit: errors of energies, forces and stresses, with intervals."""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from matplotlib.figure import Figure

from mlip.errors import InputError
from mlip.evaluation import calibration, error_statistics
from mlip.evaluation.accuracy_figures import plot_accuracy
from mlip.evaluation.bootstrap import blocks, trajectory
from mlip.evaluation.error_statistics import LEAST_FORCE, angles, cosines, magnitude_errors
from mlip.evaluation.error_table import QUANTILES, ErrorTable, Quantity, forces, parity_sample, quantities
from mlip.evaluation.migrating import THRESHOLD, migrating_ions
from mlip.evaluation.predictions import (
    Rows,
    compared,
    labelled_atoms,
    of_whole_structures,
    predicted,
    without_atomic_energies,
)
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section

FORCE_BINS = (0.0, 0.5, 1.0, 2.0, 4.0, np.inf)  # eV/Å, of the label
CURVE = np.concatenate([np.linspace(0, 0.95, 96), np.linspace(0.955, 1, 10)])  # of a cumulative distribution
TEMPERATURES = ("temperature_K", "temperature", "T")
STRONG = f"atoms with |F| > {LEAST_FORCE} eV/Å"
MANY = 0.2  # of the mobile ions on their way at once: no rare event
QUANTILE_NOTE = ("MAE and RMSE are per component; force_vector_error is the length of a force's error vector, stress_error the rms "
                 "over the nine components of a stress")  # fmt: skip
FEWEST = 5  # atoms or frames of a group whose errors are shown


@dataclass(frozen=True)
class Accuracy:
    """Errors of energies, forces and stresses on labelled structures, with intervals.

    mobile               symbol of the conducting ion: its errors on the way between sites stand apart
    reference            lattice whose sites define migrating ions, see migrating.py; threshold in Å
    fit_atomic_energies  takes one constant per element out of the energy errors, for a calculator of another level of theory
    trajectories         of each structure; None: file, `trajectory` and config_type. They are resampled as a whole
    atoms_per_call       upper limit of atoms in one batched call

    MAE is over Cartesian components and so depends a little on the axes; everything else does not.
    Raises ValueError if no structure has a label.
    """

    structures: Sequence[Atoms]
    mobile: str | None = None
    reference: Atoms | None = None
    migrating_threshold: float = THRESHOLD
    fit_atomic_energies: bool = False
    trajectories: Sequence[Hashable] | None = None
    atoms_per_call: int = 1000

    def evaluate(self, calculator) -> Section:
        """Compare predictions with labels, in total and by group."""
        if not self.structures:
            raise InputError("accuracy needs labelled structures, got none")
        trajectories = (
            list(self.trajectories)
            if self.trajectories is not None
            else [trajectory(atoms) for atoms in self.structures]
        )
        energy, force, stress = compared(self.structures, predicted(calculator, self.structures, self.atoms_per_call))
        if not len(energy) + len(force) + len(stress):
            raise InputError(f"none of the {len(self.structures)} structures has a label: they need ref_energy, ref_forces or "
                             "ref_stress (mlip.data.structures.read gives labels these names)")  # fmt: skip
        table = ErrorTable(blocks(trajectories))
        notes = [f"{len(self.structures)} structures; {table.blocks}", QUANTILE_NOTE]
        if self.fit_atomic_energies and len(energy):
            energy, constants = without_atomic_energies(energy, self.structures)
            notes.append(f"energy errors are without a fitted constant per element: {constants}")
        elif len(energy) > 1 and abs(energy.error.mean()) > 10 * energy.error.std():
            notes.append(f"energies are off by {energy.error.mean():.3g} eV per atom, nearly the same everywhere: another level of "
                         "theory or other atomic energies. fit_atomic_energies=true takes a constant per element out")  # fmt: skip
        labelled = quantities(energy, force, stress)
        for quantity in labelled:
            table.rows(quantity, quantity.rows, {}, tails=True)
        data = {"parity": {quantity.name: parity_sample(quantity) for quantity in labelled}}
        of_frame_groups(table, labelled, self.structures)
        if len(force):
            of_forces(table, force)
            masks, how = migrating_ions(
                self.structures, self.mobile, self.reference, self.migrating_threshold, trajectories
            )
            moving = np.concatenate(
                [mask[labelled_atoms(atoms)] for mask, atoms in zip(masks, self.structures, strict=True)]
            )
            data["cumulative"] = of_migrating(table, force, moving, how, self.mobile)
            notes.append(migrating_note(how, moving, force, self.mobile))
        data["uncertainty"] = {}
        for name, unit, rows in (
            ("energy", "eV", of_whole_structures(energy, self.structures)),
            ("force", "eV/Å", force),
        ):
            if len(rows) and rows.sigma is not None:
                data["uncertainty"][name] = of_sigma(table, name, unit, rows)
        return Section("accuracy", table.results, data, notes)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot parity, force errors and calibration."""
        return plot_accuracy(data)


def of_frame_groups(table: ErrorTable, labelled: Sequence[Quantity], structures: Sequence[Atoms]) -> None:
    """Errors by config_type and by temperature."""
    for kind, of_frame in frame_groups(structures).items():
        for value in dict.fromkeys(of_frame):
            chosen = np.array([other == value for other in of_frame])
            for quantity in labelled:
                rows = quantity.rows
                if value is not None and chosen[rows.frame].sum() >= FEWEST:
                    table.rows(quantity, rows[chosen[rows.frame]], {kind: value})


def frame_groups(structures: Sequence[Atoms]) -> dict[str, list]:
    """config_type and temperature_K of every structure, if they differ or are known."""
    temperatures = [next((float(a.info[name]) for name in TEMPERATURES if name in a.info), None) for a in structures]
    config_types = [str(atoms.info.get("config_type", "default")) for atoms in structures]
    groups = {"config_type": config_types} if len(set(config_types)) > 1 else {}
    return groups | ({"temperature_K": temperatures} if any(t is not None for t in temperatures) else {})


# ---------------------------------------------------------------- forces: whole, by element, by size, on migrating ions


def of_forces(table: ErrorTable, force: Rows) -> None:
    """Relative error, direction, softening; the errors by element and by |F| of the label."""
    block = table.blocks.of_frame[force.frame]
    flat = (force.error.ravel(), force.label.ravel())
    table.add("force_relative_rmse", "", error_statistics.relative, flat, np.repeat(block, 3), {})
    table.add(
        "softening_slope", "", error_statistics.softening, (force.predicted, force.label), block, {}, positive=False
    )
    size = np.linalg.norm(force.label, axis=1)
    strong = size > LEAST_FORCE
    if strong.any():
        cosine = cosines(force.predicted[strong], force.label[strong])
        table.add(
            "force_cosine", "", error_statistics.mean, (cosine,), block[strong], {}, positive=False, notes=(STRONG,)
        )
        of_angles(table, force[strong], {})
    for number in np.unique(force.number):
        table.rows(forces(force), force[force.number == number], {"element": chemical_symbols[number]})
    for low, high in itertools.pairwise(FORCE_BINS):
        chosen = (size >= low) & (size < high)
        if chosen.sum() >= FEWEST:
            where = {"label_force_eV_per_A": f"{low:g}-{high:g}" if np.isfinite(high) else f"> {low:g}"}
            table.rows(forces(force), force[chosen], where)
            values = (force.predicted[chosen], force.label[chosen])
            table.add("softening_slope", "", error_statistics.softening, values, block[chosen], where, positive=False)


def of_angles(table: ErrorTable, strong: Rows, where: dict) -> None:
    """Quantiles of the angle between predicted and labelled force."""
    angle, block = angles(strong.predicted, strong.label), table.blocks.of_frame[strong.frame]
    for q in QUANTILES[:2]:
        measure = partial(error_statistics.quantile, q=q)
        table.add(f"force_angle_q{100 * q:g}", "degree", measure, (angle,), block, where, notes=(STRONG,))


def of_migrating(table: ErrorTable, force: Rows, moving: np.ndarray, how: str, mobile: str | None) -> dict:
    """Errors of magnitude and angle of migrating ions, beside those of the same element on their sites.

    Returns the cumulative distributions, of all atoms too.
    """
    symbols = np.array(chemical_symbols)[force.number]
    kinds = {"all atoms": np.ones(len(force), dtype=bool)}
    if moving.sum() >= FEWEST:
        same = np.isin(symbols, np.unique(symbols[moving])) if mobile is None else symbols == mobile
        kinds |= {"migrating": moving, "same element, not migrating": same & ~moving}
    curves = {}
    for kind, chosen in kinds.items():
        rows, where = force[chosen], {"ions": kind}
        if len(rows) < FEWEST:
            continue
        magnitude = magnitude_errors(rows.predicted, rows.label) * 1e3
        strong = rows[np.linalg.norm(rows.label, axis=1) > LEAST_FORCE]
        angle = angles(strong.predicted, strong.label)
        curves[kind] = {"n": len(rows), "part": CURVE.tolist(), "magnitude_meV_per_A": np.quantile(magnitude, CURVE).tolist(),
                        "angle_degree": np.quantile(angle, CURVE).tolist() if len(angle) else []}  # fmt: skip
        if kind != "all atoms":
            table.rows(forces(force), rows, where)
            block = table.blocks.of_frame[rows.frame]
            for q in QUANTILES[:2]:
                name = f"force_magnitude_error_q{100 * q:g}"
                table.add(
                    name, "meV/Å", partial(error_statistics.quantile, q=q), (magnitude,), block, where, notes=(how,)
                )
            if len(angle):
                of_angles(table, strong, where)
    return curves


def migrating_note(how: str, moving: np.ndarray, force: Rows, mobile: str | None) -> str:
    """Note on migrating ions: criterion and number, with a warning if they are too many."""
    if not how:
        return "migrating ions: not identified; give `mobile`, a reference lattice, or an array `migrating`"
    among = (
        np.isin(force.number, np.unique(force.number[moving]))
        if mobile is None
        else force.number == atomic_numbers[mobile]
    )
    share = moving.sum() / max(among.sum(), 1)
    warning = (
        " That is no rare event: frames too far apart in time, a low threshold, or a melt." if share > MANY else ""
    )
    return f"migrating ions: {how}; {int(moving.sum())} of {int(among.sum())}.{warning}"


def of_sigma(table: ErrorTable, name: str, unit: str, rows: Rows) -> dict:
    """Calibration of a spread as the calculator gives it, and after one factor per element from the other half of the blocks."""
    block = table.blocks.of_frame[rows.frame]
    scaled = calibration.cross_fitted(rows.sigma, rows.error, rows.number, block)
    curves = {"unit": unit}
    for state, sigma in (("as given", rows.sigma), ("rescaled", scaled)):
        curves[state] = summary = calibration.summary(sigma, rows.error)
        note = () if state == "as given" else ("one factor per element, fitted to the other half of the frames",)
        for measure, label in (
            ("alpha", "rms_error_over_sigma"),
            ("area", "miscalibration_area"),
            ("spearman", "spearman"),
        ):
            table.results.append(
                Result(f"{name}_sigma_{label}", summary[measure], "", notes=note, conditions={"sigma": state})
            )
    return curves
