"""What a run of dynamics amounts to, and what in it calls for a second look."""

from pathlib import Path

import numpy as np

COLUMNS = [
    "step", "time_fs", "temperature_K", "potential_energy_eV", "kinetic_energy_eV", "total_energy_eV",
    "conserved_eV", "pressure_GPa", "volume_A3",
]  # fmt: skip
DRIFT = 1e-4  # eV/atom/ps: 80 K in 100 ps
EXPLODED = 0.05  # eV/atom, which no conserved quantity fluctuates by
RELAXATIONS = 20  # of a thermostat, before its mean temperature is judged


def read_thermo(folder: str | Path) -> dict[str, np.ndarray]:
    """The columns of thermo.csv by name."""
    rows = np.loadtxt(Path(folder) / "thermo.csv", delimiter=",", skiprows=1, ndmin=2)
    return dict(zip(COLUMNS, rows.T, strict=True))


def summarise(folder: Path, n_atoms: int, steps: int, timestep_fs: float, wall: float, ensemble) -> dict:
    """Drift, temperature, speed and warnings; None for what a run of that length or kind does not have."""
    table = read_thermo(folder)
    ps, conserved = table["time_fs"] * 1e-3, table["conserved_eV"]
    fits = len(ps) > 2 and np.isfinite(conserved).all()
    return {
        "n_atoms": n_atoms,
        "steps": steps,
        "time_ps": steps * timestep_fs * 1e-3,
        "temperature_K": float(table["temperature_K"][len(ps) // 2 :].mean()),
        "drift_eV_per_atom_ps": float(np.polyfit(ps, conserved - conserved[0], 1)[0] / n_atoms) if fits else None,
        "wall_s": wall,
        "us_per_atom_step": wall / steps / n_atoms * 1e6 if steps else None,
        "ns_per_day": steps * timestep_fs * 1e-6 * 86400 / wall if steps else None,
        "warnings": warnings(table, n_atoms, timestep_fs, ensemble),
    }


def warnings(table: dict[str, np.ndarray], n_atoms: int, timestep_fs: float, ensemble) -> list[str]:
    """A conserved quantity that drifts, a thermostat that does not hold its temperature; with what helps.

    table  columns of thermo.csv. Short runs are not judged: their slopes and means are fluctuations
    """
    ps, conserved = table["time_fs"] * 1e-3, table["conserved_eV"]
    messages = []
    if len(ps) >= 20 and np.isfinite(conserved).all():
        slope, start = np.polyfit(ps, conserved, 1)
        scatter = (conserved - start - slope * ps).std()
        exploded = np.ptp(conserved) / n_atoms > EXPLODED
        if abs(slope) / n_atoms > DRIFT and (abs(slope) * np.ptp(ps) > 3 * scatter or exploded):
            messages.append(
                f"the conserved quantity drifts by {slope / n_atoms:.2g} eV/atom/ps (more than {DRIFT:g}): a timestep_fs below "
                f"{timestep_fs:g}, or dtype=float64"
            )
    damping = getattr(ensemble, "damping_fs", None)
    if damping is not None and ps[-1] * 1e3 >= RELAXATIONS * damping:
        second_half = table["temperature_K"][len(ps) // 2 :]
        mean, target = second_half.mean(), ensemble.temperature_K
        independent = max(1.0, 0.5 * ps[-1] * 1e3 / (2 * damping))
        if abs(mean - target) > 0.05 * target + 5 * target * np.sqrt(2 / (3 * n_atoms) / independent):
            messages.append(
                f"the mean temperature of the second half is {mean:.0f} K, temperature_K={target:g} was asked for: a longer run if "
                f"it still relaxes, or a shorter damping_fs than {damping:g}"
            )
    return messages
