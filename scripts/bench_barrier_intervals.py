#!/usr/bin/env python3
"""Whether the intervals of barriers hold: a potential with uncertainty against its truth, on hops of Li3YCl6 that it has not seen.

    scripts/bench_barrier_intervals.py runs/cov runs/distill/student --truth chgnet --hops 72

Hops of Li into the empty sites of orderings 1 to 3 of start.xyz, and from their ends on; bands, ends and saddles of the potential itself.
The run has model.pt and last_layer.pt (mlip export RUN uncertainty=last_layer).
The truth is asked at the same two structures; a truth that is a file of ours also relaxes its own path. FOLDER/hops.json has every hop.
"""

import argparse
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.stats import beta

import mlip
from mlip.calculator import calculate_many
from mlip.data.structures import read
from mlip.files import write_json
from mlip.sampling.candidate import bare
from mlip.sampling.context import HopCatalogue, KnownHop
from mlip.sampling.transition_states import RelaxedHop, relax_hop
from mlip.transitions.barrier_interval import difference_sigma, half_width
from mlip.transitions.endpoints import empty_site_hops
from mlip.transitions.in_step import in_step
from mlip.transitions.quench import quench_ends

DATA = Path(__file__).resolve().parents[1] / "datasets" / "li3ycl6"
LONGEST, HIGHEST, AT_ONCE = 4.0, 1.5, 12  # Å; eV; hops in one call
BAND = {"n_images": 7, "fmax": 0.03, "steps": 200}


def truth_of(name: str):
    """CHGNet, or a file of ours."""
    if name == "chgnet":
        from chgnet.model.dynamics import CHGNetCalculator

        return CHGNetCalculator(use_device="cpu")
    return mlip.load_calculator(name, dtype="float64")


def found_hops(calculator, n: int, seed: int) -> list[KnownHop]:
    """n distinct hops: from the orderings, then from the ends of hops, drawn at random."""
    rng, catalogue = np.random.default_rng(seed), HopCatalogue()
    lattice, waiting = read(DATA / "sites.xyz")[0], [bare(atoms) for atoms in read(DATA / "start.xyz")[1:]]
    while len(catalogue.hops) < n and waiting:
        atoms = waiting.pop(0)
        sites = lattice.copy()
        sites.set_cell(atoms.cell, scale_atoms=True)
        listed = empty_site_hops(atoms, "Li", sites.positions[sites.numbers == 3], LONGEST)
        chosen = [listed[k] for k in rng.permutation(len(listed))[:AT_ONCE]]
        for ends in in_step(quench, chosen, calculator):
            if not isinstance(ends, ValueError) and (hop := catalogue.add(*ends, "Li")) is not None:
                waiting.append(hop.end)
    return catalogue.hops[:n]


def quench(hop, calculator) -> tuple[Atoms, Atoms]:
    """Both ends, relaxed."""
    return quench_ends(hop.start, hop.end, calculator, 0.02, 300)


def relaxed(hops: list[KnownHop], calculator) -> list[RelaxedHop | ValueError]:
    """Every band."""
    out = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for first in range(0, len(hops), AT_ONCE):
            out += in_step(partial(relax_hop, **BAND), hops[first : first + AT_ONCE], calculator)
    return out


def good(hop: RelaxedHop | ValueError) -> bool:
    """A saddle that was reached, not too high."""
    return (
        isinstance(hop, RelaxedHop)
        and hop.has_saddle
        and (hop.path.converged or hop.by_dimer)
        and hop.barrier < HIGHEST
    )


def main() -> None:
    """Prints the part of the barriers inside their intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path, help="of mlip train; with last_layer.pt")
    parser.add_argument("--truth", required=True, help="chgnet, or a file of ours")
    parser.add_argument("--hops", type=int, default=72)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    calculator, truth = mlip.load_calculator(asked.run / "model.pt"), truth_of(asked.truth)
    uncertain = mlip.load_calculator(asked.run / "last_layer.pt")
    hops = found_hops(calculator, asked.hops, asked.seed)
    rows = []
    mine = relaxed(hops, calculator)
    own = relaxed(hops, truth) if asked.truth != "chgnet" else [None] * len(hops)
    for hop, path, true_path in zip(hops, mine, own, strict=True):
        if not good(path):
            continue
        start, saddle = (
            a.get_potential_energy() for a in calculate_many(truth, [bare(path.path.images[0]), bare(path.saddle)])
        )
        sigma = difference_sigma(path.path.images[0], path.saddle, uncertain)
        row = {
            "hop": hop.name,
            "barrier": path.barrier,
            "at_saddle": saddle - start,
            "sigma": sigma,
            "half": half_width(path.path.images[0], path.saddle, uncertain),
        }
        rows.append(row | ({"true": true_path.barrier} if good(true_path) else {}))
    write_json(asked.folder / "hops.json", rows)
    for key in ("at_saddle", "true"):
        if chosen := [row for row in rows if key in row]:
            error = np.array([row["barrier"] - row[key] for row in chosen])
            half, sigma = (np.array([row[k] for row in chosen]) for k in ("half", "sigma"))
            k, n = int((np.abs(error) <= half).sum()), len(chosen)
            low, high = beta.ppf([0.025, 0.975], [k, k + 1], [n - k + 1, n - k])
            print(
                f"{key}: {k} of {n} hops inside, {k / n:.1%} ({low:.1%} - {high:.1%}); MAE {1e3 * np.abs(error).mean():.1f} meV, "
                f"median sigma {1e3 * np.median(sigma):.1f} meV, rms of error / sigma {np.sqrt(np.mean((error / sigma) ** 2)):.2f}"
            )


if __name__ == "__main__":
    main()
