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

from lattice_gas import LatticeGas, long_run_diffusivity
from walkers import exact, hoppers

from mlip.evaluation.arrhenius import activation_energy, fit
from mlip.evaluation.conductivity import effective_hops
from mlip.evaluation.diffusion import mean_square_displacement
from mlip.evaluation.increments import estimate
from mlip.evaluation.production import lengths
from mlip.units import BOLTZMANN

BOX = 1000.0  # Å, wide enough never to wrap
CASES = {"30 hops": (201, 20, 0.0075, 0.0), "160 hops": (401, 8, 0.05, 0.0), "1000 hops": (801, 25, 0.05, 0.0),
         "1200 hops, half go back": (1601, 15, 0.05, 0.5)}  # fmt: skip
# lattice gases: what LatticeGas takes, and attempts per ion between two of 401 frames
GASES = {"sites of 2 kT, slow": ({"size": 5, "n_ions": 25, "disorder_kT": 2.0}, 0.25),
         "sites of 2 kT": ({"size": 5, "n_ions": 25, "disorder_kT": 2.0}, 1.0),
         "sites of 1.5 kT": ({"size": 4, "n_ions": 16, "disorder_kT": 1.5}, 2.0),
         "exclusion, 90 % full": ({"size": 5, "n_ions": 112}, 0.25),
         "strings of 3": ({"size": 5, "n_ions": 87, "string": 3}, 0.25),
         "strings of 3, slow": ({"size": 5, "n_ions": 87, "string": 3}, 0.05),
         "sites of 1 kT, strings of 4": ({"size": 4, "n_ions": 51, "disorder_kT": 1.0, "string": 4}, 0.25)}  # fmt: skip

# production that ends when D is as precise as asked, from a sixth of these frames on
GROWN = {"until 25 %": (1201, 16, 0.02, 0.0), "until 25 %, half go back": (2401, 16, 0.02, 0.5)}
TEMPERATURES, BARRIER = (600.0, 700.0, 800.0, 900.0, 1000.0), 0.25  # K, eV
SERIES = {"E_a, 20-170 hops": (401, 8, 0.05)}  # frames, ions, hops per ps at 1000 K
GAS_SERIES = {"E_a, sites of 0.1 eV": ({"size": 4, "n_ions": 16}, 0.1)}  # eV: standard deviation of the site energies


def ours(ions):
    """D, low, high in Å^2/ps."""
    e = estimate(ions, 1.0)
    return e.value, e.low, e.high


def grown(ions):
    """The same of the first frames, as many as dynamics takes until D is known to 25 % from 160 effective hops."""
    for length in lengths((len(ions) - 1) / 6, len(ions) - 1):
        some = ions[: int(length) + 1]
        value, low, high = ours(some)
        msd = mean_square_displacement(some, 1.0)[1].max()
        if high - low < 2 * 0.25 * value and effective_hops(msd, some.shape[1], 1.0) > 160:
            break
    return value, low, high


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


def measured(name, method, runs, d):
    """Print the row of one method, or why it did not run."""
    some = runs[: max(2, len(runs) // 20)] if "kinisi" in method.__name__ else runs  # it samples a posterior: slow
    try:
        text = row(method, some, d) + f"   {len(some)}"
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # a library that is not there, or changed
        text = f"not run: {type(error).__name__}: {str(error)[:90]}"
    print(f"{name:30s}{method.__name__:12s}{text}", flush=True)


def gas_runs(n_runs, family, attempts_per_ion, seed=0):
    """Runs of a lattice gas in equilibrium [n_runs, 401, n_ions, 3], and D of these gases in ten times the time."""
    gas = LatticeGas(np.random.default_rng(seed), n_runs, **family)
    attempts = max(1, int(attempts_per_ion * family["n_ions"]))
    for _ in range(40 * family["n_ions"]):
        gas.attempt()
    runs = gas.run(401, attempts, vibration=0.1).astype(float)
    d, _ = long_run_diffusivity(gas, 4000, attempts)
    return runs, d


def of_a_series(at, energy):
    """Method of runs at TEMPERATURES: E_a, low, high."""

    def method(runs):
        return energy([at(ions) for ions in runs])

    method.__name__ = at.__name__
    return method


def main():
    n_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(
        f"{'case':30s}{'method':12s}{'bias':>7s} {'scatter':>8s} {'quoted':>8s} {'2s cover':>9s} {'CPU s/run':>9s}   runs"
    )
    for name, (n_frames, n_ions, rate, back) in CASES.items():
        runs = hoppers(np.random.default_rng(0), n_runs, n_frames, n_ions, rate, back=back)
        for method in (ours, pymatgen, kinisi):
            measured(name, method, runs, exact(rate, back=back))
    for name, (n_frames, n_ions, rate, back) in GROWN.items():
        runs = hoppers(np.random.default_rng(2), n_runs, n_frames, n_ions, rate, back=back)
        for method in (ours, grown):
            measured(name, method, runs, exact(rate, back=back))
    for name, (family, attempts) in GASES.items():
        runs, d = gas_runs(n_runs, family, attempts)
        for method in (ours, pymatgen, kinisi):
            measured(name, method, runs, d)
    for name, (n_frames, n_ions, hottest) in SERIES.items():
        rates = [hottest * np.exp(-BARRIER / BOLTZMANN * (1 / t - 1 / TEMPERATURES[-1])) for t in TEMPERATURES]
        rng = np.random.default_rng(1)
        series = list(zip(*(hoppers(rng, n_runs, n_frames, n_ions, rate) for rate in rates), strict=True))
        for at, energy in ((ours, ours_energy), (pymatgen, pymatgen_energy), (kinisi, kinisi_energy)):
            measured(name, of_a_series(at, energy), series, BARRIER)
    for name, (family, disorder) in GAS_SERIES.items():
        # hops over BARRIER between sites that differ: E_a of the true line through D at TEMPERATURES
        gases = [gas_runs(n_runs, {**family, "disorder_kT": disorder / (BOLTZMANN * t)},
                          2 * np.exp(-BARRIER / BOLTZMANN * (1 / t - 1 / TEMPERATURES[-1]))) for t in TEMPERATURES]  # fmt: skip
        truth = activation_energy(fit(TEMPERATURES, [d for _, d in gases], np.full(len(gases), 0.01))).value
        series = list(zip(*(runs for runs, _ in gases), strict=True))
        for at, energy in ((ours, ours_energy), (pymatgen, pymatgen_energy), (kinisi, kinisi_energy)):
            measured(name, of_a_series(at, energy), series, truth)


if __name__ == "__main__":
    main()
