"""Infrared spectrum of dynamics: absorption by the polarisation current of Born charges, beside that of formal charges."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase import units as ase_units
from ase.io.trajectory import Trajectory as AseTrajectory
from matplotlib.figure import Figure
from scipy.signal import find_peaks, spectrogram

from mlip import units
from mlip.electrostatics.parameters import formal_charge_table
from mlip.errors import InputError
from mlip.evaluation import plots
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.static.field_response import polarisation_response
from mlip.md.ensemble import NVE, Bussi
from mlip.md.run import run

LIGHT = 0.0299792458  # cm/ps
HANN = 1.44  # bins at half height of the power of Hann's window
HALF_OVERLAP = 1.06  # variance of a mean of segments that overlap by half, in that of independent ones (Welch)
PROMINENT = 0.05  # of the highest line: what a line stands out at least
PICOSECOND = 1e3 * ase_units.fs  # in the unit of time of ASE


@dataclass(frozen=True)
class Infrared:
    """Infrared spectrum of NVE dynamics from J = sum_i Z*_i v_i with the model's own Born charges.

        alpha(w) n(w) = Re sigma(w) / (eps_0 c),   Re sigma(w) = 1/(6 V k T) int <J(0).J(t)> exp(i w t) dt

    Classical nuclei; for harmonic ones this is the quantum spectrum too (Ramirez et al., J. Chem. Phys. 121, 3973 (2004)).
    The mean over three directions, of the field inside: lines are transverse modes at Gamma. At w = 0 stands the dc
    conductivity. Power spectra of Hann's window over segments that overlap by half (P. D. Welch, IEEE Trans. Audio
    Electroacoust. 15, 70 (1967)).

    folder             holds every replica, 0/nvt, 0/nve, ..., resumed after a kill
    time_ps            of each replica at constant energy, after equilibration_ps at temperature_K
    frame_interval_fs  between frames; half of 1 / interval is the highest wave number: 8 fs reach 2085 cm-1
    resolution_per_cm  width of the window at half height, cm-1: segments of 1.44 / (c resolution)
    formal_charges     symbol -> e, instead of the usual oxidation state, for the spectrum beside
    """

    atoms: Atoms
    folder: str | Path
    temperature_K: float
    equilibration_ps: float = 2.0
    time_ps: float = 20.0
    n_replicas: int = 3
    timestep_fs: float = 1.0
    frame_interval_fs: float = 8.0
    resolution_per_cm: float = 10.0
    formal_charges: Mapping[str, float] | None = None

    def evaluate(self, calculator) -> Section:
        """Run dynamics, take Z* of every frame, and transform the currents."""
        interval_ps = 1e-3 * self.timestep_fs * self.frame_every
        length = round(HANN / (LIGHT * self.resolution_per_cm * interval_ps))
        if not 8 <= length <= 1e3 * self.time_ps / self.timestep_fs / self.frame_every:
            raise InputError(
                f"a resolution of {self.resolution_per_cm:g} cm-1 needs segments of {length * interval_ps:.3g} ps: give time_ps of "
                f"twice that at least, it is {self.time_ps:g}, and frames every {length * interval_ps * 125:.3g} fs or less"
            )
        polarisation_response(calculator, self.atoms)  # a calculator without Born charges is refused before dynamics
        fixed, notes = self.fixed_charges()
        born, formal = [], []
        for replica in range(self.n_replicas):
            frames = self.frames(calculator, replica)
            both = np.array([currents(calculator, atoms, fixed) for atoms in frames])  # [n_frames, 2, 3] e Å/ps
            heat = units.BOLTZMANN * kinetic_temperature(frames)
            for kept, current in zip((born, formal), both.transpose(1, 0, 2), strict=True):
                kept.append(conductivities(current, interval_ps, length, frames[0].get_volume(), heat))
        wave, absorption, error = spectrum(np.concatenate(born, axis=1), length, interval_ps)
        data = {"wavenumber_per_cm": wave, "absorption_per_cm": absorption, "error_per_cm": error,
                "temperature_K": self.temperature_K}  # fmt: skip
        if fixed is not None:
            data["absorption_formal_per_cm"] = spectrum(np.concatenate(formal, axis=1), length, interval_ps)[1]
        where = {"temperature_K": float(self.temperature_K)}
        results = [
            Result("infrared_line", wave[k], "1/cm", conditions={**where, "line": n, "absorption_per_cm": round(absorption[k], 1)})
            for n, k in enumerate(lines(absorption), 1)
        ]  # fmt: skip
        head = (f"{len(self.atoms)} atoms, {self.n_replicas} replicas of {self.time_ps:g} ps at constant energy, resolution "
                f"{self.resolution_per_cm:g} cm-1, classical nuclei")  # fmt: skip
        return Section("infrared", results, {k: np.asarray(v).tolist() for k, v in data.items()}, [head, *notes])

    @property
    def frame_every(self) -> int:
        """Steps between frames."""
        return max(1, round(self.frame_interval_fs / self.timestep_fs))

    def fixed_charges(self) -> tuple[np.ndarray | None, list[str]]:
        """Formal charges of all atoms, [n_atoms] e, and why there are none."""
        symbols = self.atoms.get_chemical_symbols()
        try:
            charges = formal_charge_table(symbols, dict(self.formal_charges or {})).numpy()
        except InputError as error:
            return None, [f"no spectrum of formal charges: {error}"]
        if abs(charges.sum()) > 1e-6:
            return None, [f"no spectrum of formal charges: they add up to {charges.sum():g} e; give formal_charges"]
        return charges, []

    def frames(self, calculator, replica: int) -> list[Atoms]:
        """Frames of one replica at constant energy, run or resumed."""
        folder = Path(self.folder) / str(replica)
        settings = {"timestep_fs": self.timestep_fs, "frame_every": self.frame_every, "seed": replica}
        steps = [round(1e3 * time / self.timestep_fs) for time in (self.equilibration_ps, self.time_ps)]
        run(self.atoms, calculator, folder / "nvt", Bussi(self.temperature_K), steps=max(steps[0], 1), **settings)
        with AseTrajectory(str(folder / "nvt" / "trajectory.traj")) as equilibration:
            start = equilibration[-1]
        run(start, calculator, folder / "nve", NVE(self.temperature_K), steps=steps[1], **settings)
        with AseTrajectory(str(folder / "nve" / "trajectory.traj")) as frames:
            return list(frames)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot the spectrum."""
        return {"spectrum": plot_spectrum(data)}


def currents(calculator, atoms: Atoms, fixed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """sum_i Z*_i v_i, and sum_i q_i v_i of fixed charges, [3] e Å/ps each."""
    velocities = atoms.get_velocities() * PICOSECOND
    still = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    born, _ = polarisation_response(calculator, still)
    formal = np.zeros(3) if fixed is None else fixed @ velocities
    return np.einsum("iab,ib->a", born, velocities), formal


def kinetic_temperature(frames: list[Atoms]) -> float:
    """Mean temperature K of frames whose momenta add up to zero."""
    freedom = 3 * len(frames[0]) - 3
    return float(np.mean([2 * atoms.get_kinetic_energy() for atoms in frames]) / (freedom * units.BOLTZMANN))


def conductivities(current: np.ndarray, interval_ps: float, length: int, volume: float, heat: float) -> np.ndarray:
    """Re sigma of every segment, S(f) / (6 V k T), [length, n_segments] e^2/(eV Å ps), S the two-sided power spectrum of J.

    current [n_frames, 3] e Å/ps;  volume Å^3;  heat k T, eV. Frequencies in the order of numpy.fft.fftfreq
    """
    _, _, power = spectrogram(current, 1 / interval_ps, "hann", length, length // 2, detrend=False, return_onesided=False,
                              scaling="density", mode="psd", axis=0)  # fmt: skip
    return power.sum(axis=1) / (6 * volume * heat)


def spectrum(conductivity: np.ndarray, length: int, interval_ps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wave numbers cm-1, alpha n = Re sigma / (eps_0 c) cm-1 and its 1 sigma error, of segments [length, n_segments]."""
    kept = slice(0, (length + 1) // 2)
    wave = np.fft.fftfreq(length, interval_ps)[kept] / LIGHT
    per_cm = 4 * np.pi * units.COULOMB / LIGHT
    n_segments = conductivity.shape[1]
    error = np.full(len(wave), np.nan)
    if n_segments > 1:
        error = conductivity[kept].std(axis=1, ddof=1) * np.sqrt(HALF_OVERLAP / n_segments) * per_cm
    return wave, conductivity[kept].mean(axis=1) * per_cm, error


def lines(absorption: np.ndarray) -> Iterator[int]:
    """Places of the lines that stand out of the spectrum, from low to high frequencies."""
    yield from find_peaks(absorption, prominence=PROMINENT * absorption.max())[0].tolist()


def plot_spectrum(data: Mapping) -> Figure:
    """alpha n against the wave number with its 1 sigma band; dashed that of formal charges."""
    figure, axis = plots.canvas("wave number (cm$^{-1}$)", "α n (cm$^{-1}$)")
    wave, absorption = (np.array(data[name], float) for name in ("wavenumber_per_cm", "absorption_per_cm"))
    error = np.nan_to_num(np.array(data["error_per_cm"], float))
    axis.fill_between(wave, absorption - error, absorption + error, color=plots.BLUE, alpha=0.25, linewidth=0)
    axis.plot(wave, absorption, color=plots.BLUE, linewidth=1, label="Born charges")
    if "absorption_formal_per_cm" in data:
        axis.plot(wave, data["absorption_formal_per_cm"], "--", color=plots.ORANGE, linewidth=1, label="formal charges")
    shown = wave[absorption > 0.01 * absorption.max()]
    axis.set(xlim=(0, 1.1 * shown[-1]), ylim=(0, None))
    plots.title(axis, f"{data['temperature_K']:g} K, classical nuclei")
    return plots.legend(figure)
