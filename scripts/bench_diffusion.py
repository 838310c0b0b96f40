"""Coverage of quoted errors of D and E_a on walkers where both are known: ours, pymatgen-analysis-diffusion, kinisi.

OMP_NUM_THREADS=1 python scripts/bench_diffusion.py [runs]     the two libraries are left out where not installed
"""

import contextlib
import io
import sys
import time
import warnings
from pathlib import Path

import numpy as np

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests" / "evaluation")]

from walkers import exact, hoppers

from mlip.evaluation.arrhenius import activation_energy, fit
from mlip.evaluation.increments import estimate
from mlip.units import BOLTZMANN

BOX = 1000.0  # Å, wide enough never to wrap
CASES = {"30 hops": (201, 20, 0.0075, 0.0), "160 hops": (401, 8, 0.05, 0.0), "1000 hops": (801, 25, 0.05, 0.0),
         "1200 hops, half go back": (1601, 15, 0.05, 0.5)}  # fmt: skip

TEMPERATURES, BARRIER = (600.0, 700.0, 800.0, 900.0, 1000.0), 0.25  # K, eV
SERIES = {"E_a, 20-170 hops": (401, 8, 0.05)}  # frames, ions, hops per ps at 1000 K


def ours(ions):
    """D, low, high in Å^2/ps."""
    e = estimate(ions, 1.0)
    return e.value, e.low, e.high


def pymatgen(ions):
    """D +- 2 of its quoted standard deviation, its default smoothing."""
    from pymatgen.analysis.diffusion.analyzer import DiffusionAnalyzer
    from pymatgen.core import Lattice, Structure

    # it wants a host to take the drift from
    structure = Structure(Lattice.cubic(BOX), ["Li"] * ions.shape[1] + ["O"], np.vstack([ions[0] / BOX, [[0.5] * 3]]))
    displacements = np.concatenate([(ions - ions[0]).transpose(1, 0, 2), np.zeros((1, len(ions), 3))])
    at = DiffusionAnalyzer(structure, displacements, "Li", 600, 1000, 1, smoothed="max", min_obs=30)
    d, error = at.diffusivity * 1e4, at.diffusivity_std_dev * 1e4
    return d, d - 2 * error, d + 2 * error


def kinisi(ions):
    """Median and 95 % interval of its posterior, diffusion taken to start at a tenth of the run."""
    import scipp as sc
    from ase import Atoms
    from kinisi.analyze import DiffusionAnalyzer

    # it wants a host to take the drift from
    host = [[10.0, 10, 10], [500, 500, 500]]
    frames = [Atoms(f"Li{ions.shape[1]}O2", np.vstack([x + BOX / 2, host]), cell=[BOX] * 3, pbc=True) for x in ions]
    at = DiffusionAnalyzer.from_ase(frames, "Li", 1.0 * sc.Unit("ps"), 1 * sc.units.dimensionless, progress=False)
    at.diffusion(0.1 * len(ions) * sc.Unit("ps"), progress=False)
    samples = sc.to_unit(at.D, "angstrom^2/ps").values
    return np.median(samples), *np.quantile(samples, [0.025, 0.975])


def ours_energy(points):
    """E_a, low, high in eV of points (D, low, high) at TEMPERATURES."""
    d, low, high = np.array(points).T
    found = activation_energy(fit(TEMPERATURES, d, np.log(high / low) / 4))
    return found.value, found.low, found.high


def pymatgen_energy(points):
    """E_a +- 2 of the standard error of its unweighted line."""
    from pymatgen.analysis.diffusion.analyzer import fit_arrhenius

    energy, _, error = fit_arrhenius(TEMPERATURES, [point[0] for point in points])
    return energy, energy - 2 * error, energy + 2 * error


def kinisi_energy(points):
    """Median and 95 % interval of its posterior; errors of D as it quotes them."""
    import scipp as sc
    from kinisi.arrhenius import Arrhenius

    d, low, high = np.array(points).T * 1e-4
    data = sc.DataArray(
        sc.array(dims=["temperature"], values=d, variances=((high - low) / 4) ** 2, unit="cm^2/s"),
        coords={"temperature": sc.array(dims=["temperature"], values=list(TEMPERATURES), unit="K")},
    )
    at = Arrhenius(data)
    at.mcmc()
    samples = at.activation_energy.values
    return np.median(samples), *np.quantile(samples, [0.025, 0.975])


def row(method, runs, d):
    """Bias, scatter, quoted half width and coverage over runs."""
    start, found = time.process_time(), []
    for ions in runs:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            found.append(method(ions))
    value, low, high = np.array(found, float).T / d
    quoted, cover = ((high - low) / 4).mean(), np.mean((low < 1) & (high > 1))
    return f"{value.mean() - 1:+7.1%} {value.std():8.1%} {quoted:8.3%} {cover:9.1%} {(time.process_time() - start) / len(runs):9.3f}"


def main():
    n_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(
        f"{'case':26s}{'method':10s}{'bias':>7s} {'scatter':>8s} {'quoted':>8s} {'2s cover':>9s} {'CPU s/run':>9s}   runs"
    )
    for name, (n_frames, n_ions, rate, back) in CASES.items():
        runs = hoppers(np.random.default_rng(0), n_runs, n_frames, n_ions, rate, back=back)
        for method in (ours, pymatgen, kinisi):
            some = runs[: max(2, n_runs // 20)] if method is kinisi else runs  # it samples a posterior: slow
            try:
                text = row(method, some, exact(rate, back=back)) + f"   {len(some)}"
            except (
                ImportError,
                AttributeError,
                TypeError,
                ValueError,
            ) as error:  # a library that is not there, or changed, must not stop the others
                text = f"not run: {type(error).__name__}: {str(error)[:90]}"
            print(f"{name:26s}{method.__name__:10s}{text}", flush=True)
    for name, (n_frames, n_ions, hottest) in SERIES.items():
        rates = [hottest * np.exp(-BARRIER / BOLTZMANN * (1 / t - 1 / TEMPERATURES[-1])) for t in TEMPERATURES]
        rng = np.random.default_rng(1)
        series = list(zip(*(hoppers(rng, n_runs, n_frames, n_ions, rate) for rate in rates), strict=True))
        for at, energy in ((ours, ours_energy), (pymatgen, pymatgen_energy), (kinisi, kinisi_energy)):
            some = series[: max(2, n_runs // 20)] if at is kinisi else series
            try:
                text = (
                    row(lambda runs, at=at, energy=energy: energy([at(ions) for ions in runs]), some, BARRIER)
                    + f"   {len(some)}"
                )
            except (ImportError, AttributeError, TypeError, ValueError) as error:
                text = f"not run: {type(error).__name__}: {str(error)[:90]}"
            print(f"{name:26s}{at.__name__:10s}{text}", flush=True)


if __name__ == "__main__":
    main()
