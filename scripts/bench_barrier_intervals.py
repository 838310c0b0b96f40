#!/usr/bin/env python3
"""Whether the intervals of barriers hold: a potential with uncertainty against its truth, on hops that it was not trained on.

    scripts/bench_barrier_intervals.py runs/cov runs/distill/student --hops 72
    scripts/bench_barrier_intervals.py runs/cov runs/distill/student --starts orderings.xyz --sites sites.xyz --truth model.pt

Hops of Li into the empty sites of the starts, and of orderings drawn at random, at most ABOVE eV higher; ends, bands and saddles are those of the potential itself. The truth is asked at the same two structures, since the shift of a path counts in second
order. The run has model.pt and last_layer.pt (mlip export RUN uncertainty=last_layer). FOLDER/NN.json has a dozen hops; repeated, the
command goes on, and prints the table.
"""

import argparse
import json
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.stats import beta

import mlip
from mlip.calculator import calculate_many
from mlip.data.structures import read, write
from mlip.files import write_json
from mlip.sampling.candidate import bare
from mlip.sampling.context import HopCatalogue, KnownHop, most_displaced_ion
from mlip.sampling.transition_states import RelaxedHop, relax_hop
from mlip.transitions.barrier_interval import INSIDE, difference_sigma, half_width
from mlip.transitions.endpoints import Endpoints, empty_site_hops
from mlip.transitions.in_step import in_step
from mlip.transitions.quench import quench, quench_ends

DATA = Path(__file__).resolve().parents[1] / "datasets" / "li3ycl6"
LONGEST, HIGHEST, AT_ONCE = 4.0, 1.5, 12  # Å; eV; hops in one call
ABOVE, PER_ORDERING = 0.6, 3  # eV, of a random ordering above the first start; its hops that are tried
BAND = {"n_images": 5, "fmax": 0.03, "steps": 150}


def truth_of(name: str):
    """CHGNet, or a file of ours."""
    if name == "chgnet":
        from chgnet.model.dynamics import CHGNetCalculator

        return CHGNetCalculator(use_device="cpu")
    return mlip.load_calculator(name, dtype="float64")


def found_hops(path: Path, calculator, starts: list[Atoms], sites: Atoms, n: int, seed: int) -> list[KnownHop]:
    """n distinct hops, in a file: of the starts, then of random orderings; AT_ONCE or PER_ORDERING of each, drawn at random.

    Two hops are one if their lengths and the energies of their ends are the same, in either direction. The catalogue of a sampling would
    also take hops of different orderings for one.
    """
    if path.exists():
        return HopCatalogue.from_atoms(read(path)).hops
    rng, known, hops, waiting = np.random.default_rng(seed), set(), [], [[bare(atoms)] for atoms in starts]
    while len(hops) < n:
        tried = waiting.pop(0) if waiting else orderings(starts[0], sites, calculator, AT_ONCE // PER_ORDERING, rng)
        chosen = []
        for atoms in tried:
            places = sites.copy()
            places.set_cell(atoms.cell, scale_atoms=True)
            listed = empty_site_hops(atoms, "Li", places.positions[places.symbols == "Li"], LONGEST)
            chosen += [listed[k] for k in rng.permutation(len(listed))[: AT_ONCE // len(tried)]]
        for ends in in_step(quenched, chosen, calculator):
            if not isinstance(ends, ValueError):
                ion, vector = most_displaced_ion(*ends, "Li")
                energies = sorted(round(atoms.get_potential_energy(), 3) for atoms in ends)
                if (key := (round(float(np.linalg.norm(vector)), 1), *energies)) not in known:
                    known.add(key)
                    hops.append(KnownHop(len(hops), *map(bare, ends), ion))
        print(f"{len(hops)} hops", flush=True)
    write(path, HopCatalogue(hops[:n]).to_atoms())
    return hops[:n]


def orderings(start: Atoms, sites: Atoms, calculator, n: int, rng: np.random.Generator) -> list[Atoms]:
    """n random distributions of Li over the sites, in the cell of the start, relaxed, at most ABOVE eV higher."""
    places = sites.copy()
    places.set_cell(start.cell, scale_atoms=True)
    empty, is_ion = places.positions[places.symbols == "Li"], start.symbols == "Li"
    found: list[Atoms] = []
    while len(found) < n:
        drawn = [start.copy() for _ in range(AT_ONCE)]
        for atoms in drawn:
            atoms.positions[is_ion] = rng.permutation(empty)[: int(is_ion.sum())]
        first, *relaxed = quench([start, *drawn], calculator, 0.05, 200)
        limit = first.get_potential_energy() + ABOVE
        found += [bare(a) for a in relaxed if a.info["converged"] and a.get_potential_energy() < limit]
    return found[:n]


def quenched(hop: Endpoints, calculator) -> tuple[Atoms, Atoms]:
    """Both ends, relaxed."""
    return quench_ends(hop.start, hop.end, calculator, 0.03, 200)


def judged(hops: list[KnownHop], calculator, uncertain, truth) -> list[dict]:
    """Barrier, interval and truth of each hop, eV; a hop without a saddle, or with one that is too high, is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # dips, ends not relaxed: convergence is asked for below
        found = in_step(partial(relax_hop, **BAND), hops, calculator)
    rows = []
    for hop, relaxed in zip(hops, found, strict=True):
        if good(relaxed):
            ends = [bare(relaxed.path.images[0]), bare(relaxed.saddle)]
            start, saddle = (atoms.get_potential_energy() for atoms in calculate_many(truth, ends))
            rows.append({"hop": hop.name, "barrier": relaxed.barrier, "true": float(saddle - start),
                         "sigma": difference_sigma(*ends, uncertain), "half": half_width(*ends, uncertain)})  # fmt: skip
    return rows


def good(hop: RelaxedHop | ValueError) -> bool:
    """A saddle that was reached, not too high."""
    return (
        isinstance(hop, RelaxedHop)
        and hop.has_saddle
        and (hop.path.converged or hop.by_dimer)
        and hop.barrier < HIGHEST
    )


def report(rows: list[dict]) -> None:
    """Prints the part of the barriers inside their intervals, with its own 95 % interval (Clopper and Pearson)."""
    barrier, true, sigma, half = (np.array([row[key] for row in rows]) for key in ("barrier", "true", "sigma", "half"))
    error, n = barrier - true, len(rows)
    k = int((np.abs(error) <= half).sum())
    low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    print(f"{k} of {n} barriers inside their {INSIDE:.1%} interval: {k / n:.1%} ({low:.1%} - {high:.1%})")
    print(f"barriers {true.min():.2f} to {true.max():.2f} eV, errors: mean {1e3 * error.mean():+.1f}, MAE {1e3 * np.abs(error).mean():.1f} meV; "
          f"sigma: median {1e3 * np.median(sigma):.1f} meV; rms of error / sigma {np.sqrt(np.mean((error / sigma) ** 2)):.2f}")  # fmt: skip


def main() -> None:
    """Judges what is missing, prints the coverage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path, help="of mlip train; with last_layer.pt")
    parser.add_argument("--truth", default="chgnet", help="or a file of ours")
    parser.add_argument("--starts", default=str(DATA / "start.xyz"))
    parser.add_argument("--skip", type=int, default=1, help="of the starts: those that the run was trained on")
    parser.add_argument("--sites", default=str(DATA / "sites.xyz"), help="Li at every site, in the cell of the starts")
    parser.add_argument("--hops", type=int, default=72)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    calculator, uncertain = (mlip.load_calculator(asked.run / name) for name in ("model.pt", "last_layer.pt"))
    hops = found_hops(
        asked.folder / "hops.xyz",
        calculator,
        read(asked.starts)[asked.skip :],
        read(asked.sites)[0],
        asked.hops,
        asked.seed,
    )
    truth, rows = truth_of(asked.truth), []
    for first in range(0, len(hops), AT_ONCE):
        path = asked.folder / f"{first // AT_ONCE:02d}.json"
        if not path.exists():
            write_json(path, judged(hops[first : first + AT_ONCE], calculator, uncertain, truth))
        rows += json.loads(path.read_text())
    report(rows)


if __name__ == "__main__":
    main()
