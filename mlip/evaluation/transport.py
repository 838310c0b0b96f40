"""Transport analysis of trajectories at one or several temperatures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from mlip.errors import InputError
from mlip.evaluation import hopping, plots
from mlip.evaluation.arrhenius import LEAST_TEMPERATURES, Arrhenius, activation_energy, extrapolate, from_results
from mlip.evaluation.conductivity import CM2_PER_S, check_charge
from mlip.evaluation.diffusion import analyse
from mlip.evaluation.displacements import Trajectory, read_trajectory
from mlip.evaluation.framework import framework_rmsd
from mlip.evaluation.increments import Estimate
from mlip.evaluation.literature import LiteraturePoint, points, read_points
from mlip.evaluation.phase_change import framework_rdfs, length_errors, phase_changes
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.van_hove import van_hove_self
from mlip.transitions.density import ion_density

FITTED = {"tracer_diffusivity": "cm2/s", "conductivity": "S/cm"}  # what gets an Arrhenius line
LAGS = (0.005, 0.02, 0.1, 0.3)  # of the duration, for the van Hove function


@dataclass(frozen=True)
class TransportAnalysis:
    """Settings of the analysis of trajectories.

    mobile, framework  symbols: the ion; the atoms that hold the frame of reference (None: all but the ion)
    charge             of the ion, e; never guessed
    hop_length_A         Å, between neighbouring sites
    extrapolate_to_K   temperature to which the Arrhenius lines are extrapolated
    literature         a material of the shipped table, or a CSV of one's own (literature.read_points)
    """

    mobile: str
    charge: float
    hop_length_A: float = 2.5
    framework: Sequence[str] | None = None
    extrapolate_to_K: float = 300.0
    literature: str | None = None

    def check(self, atoms: Atoms) -> None:
        """Raise ValueError if these atoms cannot be analysed, before dynamics is spent on them."""
        check_charge(self.charge)
        symbols = set(atoms.get_chemical_symbols())
        for symbol in (self.mobile, *(self.framework or ())):
            if symbol not in symbols:
                raise InputError(f"no {symbol} in {atoms.symbols}: mobile={self.mobile} and framework={self.framework} must name its "
                                 "elements")  # fmt: skip

    def section(
        self, runs: Sequence[tuple[float, Trajectory]], cell_errors: Mapping[float, np.ndarray] | None = None
    ) -> Section:
        """Analyse trajectories at their temperatures in K, and fit Arrhenius lines through them.

        cell_errors  by temperature, of cells from dynamics before (phase_change.length_errors); None: of the trajectories' own
        """
        runs = sorted(runs, key=lambda run: run[0])
        results: list[Result] = []
        data: dict = {"runs": [], "arrhenius": {}, "literature": [], "extrapolate_to_K": self.extrapolate_to_K}
        for temperature, trajectory in runs:
            of_run, curves = self.at_temperature(temperature, trajectory)
            results += of_run
            data["runs"].append(curves)
        data["literature"] = [asdict(point) for point in known_points(self.literature)]
        changes = changes_between(runs, cell_errors or {}) if len(runs) > 1 else []
        notes = []
        for name in FITTED:
            points = [result for result in results if result.name == name]
            line, of_line, remarks = fitted(points, changes, self.extrapolate_to_K)
            results += of_line
            notes += remarks
            shown = [
                {"temperature_K": r.conditions["temperature_K"], "value": r.value, "low": r.low, "high": r.high}
                for r in points
            ]
            data["arrhenius"][name] = {"points": shown, "line": None if line is None else asdict(line)}
        return Section("diffusion", results, data, list(dict.fromkeys(notes)))

    def at_temperature(self, temperature_K: float, trajectory: Trajectory) -> tuple[list[Result], dict]:
        """Numbers of one trajectory, and the curves of its figures."""
        analysis = analyse(trajectory, charge=self.charge, temperature_K=temperature_K, hop_length_A=self.hop_length_A)
        hop_results, hops = hopping.hopping(trajectory, species=trajectory.mobile, temperature_K=temperature_K)
        curves = {
            "temperature_K": temperature_K, "mobile": trajectory.mobile, "duration_ps": trajectory.duration_ps,
            "lags_ps": analysis.lags_ps.tolist(), "msd": analysis.msd.tolist(), "msd_error": analysis.msd_error.tolist(),
            "tracer": curve(analysis.tracer), "collective": curve(analysis.collective), "hopping": hops,
            "van_hove": displaced(trajectory), "density": projected(trajectory),
        }  # fmt: skip
        return [*analysis.results, *hop_results], curves


@dataclass(frozen=True)
class TrajectoryDiffusion:
    """Diffusion and conductivity in trajectories that exist already.

    trajectories  each {files, temperature_K, and if the frames have no time_fs: frame_interval_fs, elements (of LAMMPS types)};
                  skip_ps leaves out the beginning. Formats as in displacements.read_trajectory
    """

    trajectories: Sequence[Mapping]
    analysis: TransportAnalysis

    def evaluate(self, calculator) -> Section:
        """Read the trajectories and analyse them; the calculator is not called."""
        if not self.trajectories:
            raise InputError("diffusion needs at least one trajectory: {files: ..., temperature_K: ...}")
        return self.analysis.section([self.read(entry) for entry in self.trajectories])

    def read(self, entry: Mapping) -> tuple[float, Trajectory]:
        """Temperature in K and trajectory of one entry."""
        known = {"files", "temperature_K", "frame_interval_fs", "elements", "skip_ps"}
        if set(entry) - known or not {"files", "temperature_K"} <= set(entry):
            raise InputError(
                f"a trajectory has files, temperature_K, and may have {', '.join(sorted(known))}; got {dict(entry)}"
            )
        trajectory = read_trajectory(entry["files"], self.analysis.mobile, entry.get("frame_interval_fs"), self.analysis.framework,
                                     entry.get("elements"))  # fmt: skip
        return float(entry["temperature_K"]), without_beginning(trajectory, entry.get("skip_ps") or 0.0)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot MSD, D(tau), Arrhenius lines, hops, van Hove functions and densities."""
        return plot_diffusion(data)


def changes_between(
    runs: Sequence[tuple[float, Trajectory]], cell_errors: Mapping[float, np.ndarray]
) -> list[tuple[float, float, str]]:
    """Phase changes between the temperatures of trajectories."""
    errors = [cell_errors[t] if t in cell_errors else length_errors(each.cells) for t, each in runs]
    return phase_changes(
        [t for t, _ in runs], np.array([each.mean_cell for _, each in runs]), [framework_rmsd(each) for _, each in runs],
        np.array(errors), [framework_rdfs(each) for _, each in runs],
    )  # fmt: skip


def without_beginning(trajectory: Trajectory, skip_ps: float) -> Trajectory:
    """The trajectory from skip_ps on. Raises ValueError if nothing is left."""
    first = int(np.ceil(skip_ps / trajectory.interval_ps - 1e-9))
    if first >= len(trajectory.positions) - 1:
        raise InputError(f"nothing is left of {trajectory.duration_ps:g} ps after {skip_ps:g} ps of equilibration")
    return replace(
        trajectory,
        positions=trajectory.positions[first:],
        cells=trajectory.cells[first:],
        drift=trajectory.drift[first:],
    )


def curve(at: Estimate | None) -> dict | None:
    """An estimate's scan over tau, in cm^2/s."""
    if at is None:
        return None
    scan = {name: (getattr(at, name) * CM2_PER_S).tolist() for name in ("values", "errors")}
    return {
        "tau_ps": at.tau_ps,
        "value": at.value * CM2_PER_S,
        "reached": bool(at.reached),
        "taus_ps": at.taus_ps.tolist(),
        **scan,
    }


def displaced(trajectory: Trajectory) -> dict:
    """Van Hove self part at a few lags of the run."""
    interval, duration = trajectory.interval_ps, trajectory.duration_ps
    lags = sorted({max(interval, round(part * duration / interval) * interval) for part in LAGS})
    r, taken, rows = van_hove_self(trajectory.ions, interval, lags, n_bins=100)
    return {"r_A": r.tolist(), "lags_ps": taken.tolist(), "density": np.round(rows, 6).tolist()}


def projected(trajectory: Trajectory) -> dict:
    """Ions per Å^2 of the a-b plane, in voxels centred on their grid points: the density summed along c."""
    cell = trajectory.mean_cell
    grid = ion_density(trajectory.ions, cell, spacing=0.3)
    volume = abs(np.linalg.det(cell))
    area = np.linalg.norm(np.cross(cell[0], cell[1]))
    per_area = grid.mean(axis=2) * volume / area
    return {"cell": cell.tolist(), "centred": True, "projected": np.round(per_area, 5).tolist()}


def fitted(results: Sequence[Result], changes: list, to_K: float) -> tuple[Arrhenius | None, list[Result], list[str]]:
    """The Arrhenius line of one quantity, E_a and the value at to_K as results, and why there are none."""
    if len({result.conditions["temperature_K"] for result in results}) < LEAST_TEMPERATURES:
        return (
            None,
            [],
            [f"an activation energy needs at least {LEAST_TEMPERATURES} temperatures, there are {len(results)}"],
        )
    try:
        line, notes = from_results(results, changes)
    except ValueError as error:  # too few temperatures have a number
        return None, [], [str(error)]
    energy = activation_energy(line)
    quantity = results[0].name
    results_of_line = [replace(energy, conditions={**energy.conditions, "of": quantity})]
    try:
        results_of_line.append(extrapolate(line, to_K))
    except ValueError as error:
        notes.append(str(error))
    return line, results_of_line, notes


def known_points(literature: str | None) -> list[LiteraturePoint]:
    """Points of the shipped table's material, or of a CSV."""
    if literature is None:
        return []
    return read_points(literature) if literature.endswith(".csv") else points(literature)


def plot_diffusion(data: Mapping) -> dict[str, Figure]:
    """MSD, D(tau), Arrhenius of D and of sigma T, hop lengths; van Hove function and density at every temperature."""
    runs = data["runs"]
    if not runs:
        return {}
    figures = {"msd": plots.plot_msd(runs)}
    if any(run["tracer"] for run in runs):
        figures["plateau"] = plots.plot_plateau(runs)
    known = [LiteraturePoint(**point) for point in data["literature"]]
    for name, unit in FITTED.items():
        shown, line = points_and_line(data, name)
        if shown and (line or known or len(shown) > 1):
            figures[f"arrhenius_{name}"] = plots.plot_arrhenius(shown, line, unit, known, data["extrapolate_to_K"])
    if lengths := hopping.plot_hop_lengths(runs):
        figures["hop_lengths"] = lengths
    figures |= {f"van_hove_{run['temperature_K']:g}K": plots.plot_van_hove(run) for run in runs}
    return figures | {f"density_{run['temperature_K']:g}K": plots.plot_density(run) for run in runs}


def points_and_line(data: Mapping, name: str) -> tuple[list[Mapping], Arrhenius | None]:
    """Points of one quantity that a figure can show, and the line through them, of a section's data."""
    of_quantity = data["arrhenius"][name]
    line = None if of_quantity["line"] is None else Arrhenius(**arrays(of_quantity["line"]))
    return [point for point in of_quantity["points"] if point["high"] is not None], line


def arrays(line: Mapping) -> dict:
    """Lists of an Arrhenius line as arrays again."""
    return {name: np.array(value) if name in ("temperatures_K", "logarithms", "errors", "covariance") else value
            for name, value in line.items()}  # fmt: skip
