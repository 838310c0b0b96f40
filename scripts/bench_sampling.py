#!/usr/bin/env python3
"""Which way of sampling learns barriers with the fewest labels: the samplers, one oracle, equal budgets, several seeds.

    OMP_NUM_THREADS=1 scripts/bench_sampling.py runs/bench_sampling                       # Li3PO4 with a vacancy, CHGNet
    OMP_NUM_THREADS=1 scripts/bench_sampling.py runs/bench_cu --system cu --labels 16 --seeds 0 --set trainer.max_steps=50
    OMP_NUM_THREADS=1 scripts/bench_sampling.py runs/other --structure LGPS.cif --species Li --labels 200
    (CHGNet: pip install chgnet --no-deps nvidia-ml-py3)

Every run is a `mlip sample`; what follows --set goes to it. Hops of the crystal into a vacancy are split: every second class is
given to the samplers that use hops, the others are the test, with their bands relaxed and labelled by the oracle, and
none of their structures is trained on. Repeated, the command goes on; about 6 CPU hours for Li3PO4.
It prints and draws what compare_samplings.py does, and the errors of barriers on the models' own paths.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import compare_samplings
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from hydra.utils import instantiate
from rich.console import Console

from mlip import cli, keys
from mlip.calculator import calculate_many
from mlip.commands.sample import load
from mlip.data.structures import read, write
from mlip.files import whole_file
from mlip.sampling.candidate import Candidate, bare
from mlip.transitions.endpoints import vacancy_hops
from mlip.transitions.neb import neb
from mlip.transitions.perturbations import rattled
from mlip.transitions.quench import quench_ends

SAMPLERS = tuple(compare_samplings.STYLES)
SYSTEMS = {  # engine, mobile species, supercell, longest hop Å, temperatures K
    "li3po4": ("chgnet", "Li", (1, 1, 2), 4.0, [800, 1200, 1600]),
    "cu": ("emt", "Cu", (2, 2, 2), 4.0, [800]),
}
NEVER = ["limits.barrier_sigma_eV=1e-9", "limits.rounds=100"]  # the budget alone ends a run
LESS = {  # of the samplers' own work, so that the benchmark fits a small machine
    "neb_only": ["sampler.proposers.hops.max_hops=4", "sampler.proposers.paths.max_hops=8"],
    "transition_states": ["sampler.proposers.hops.max_hops=4", "sampler.proposers.steered.steps=500", "sampler.proposers.steered.max_hops=6",
                          "sampler.proposers.saddles.max_hops=8"],
}  # fmt: skip
RATTLES = 2  # of every test image
FMAX = 0.03  # eV/Å, of ends; twice that of bands


def crystal(system: str) -> Atoms:
    """One cell. gamma-Li3PO4: Pnma, a, b, c and sites as in Yakubovich and Urusov, Crystallogr. Rep. 42, 261 (1997)."""
    if system == "cu":
        return bulk("Cu", cubic=True)
    from ase.spacegroup import crystal as sites

    places = {"Li1": (0.163, 0.502, 0.301), "Li2": (0.424, 0.75, 0.206), "P": (0.412, 0.25, 0.308), "O1": (0.342, 0.044, 0.206),
              "O2": (0.051, 0.25, 0.293), "O3": (0.090, 0.75, 0.123)}  # fmt: skip
    symbols = [name.rstrip("123") for name in places]
    return sites(symbols, list(places.values()), spacegroup=62, cellpar=[10.53, 6.12, 4.93, 90, 90, 90])


def prepare(folder: Path, cell: Atoms, oracle, species: str, repeat: tuple, longest: float, most: int) -> None:
    """folder/start.xyz, hops/*.xyz and test.xyz: what every run begins with, and what it is judged by. Goes on hop by hop."""
    if (folder / "test.xyz").exists():
        return
    if not (folder / "crystal.xyz").exists():
        cell.calc = oracle
        FIRE(FrechetCellFilter(cell), logfile=None).run(fmax=0.02, steps=300)
        write(folder / "crystal.xyz", [bare(cell)])
    whole = bare(read(folder / "crystal.xyz")[0]).repeat(repeat)
    for number, hop in enumerate(vacancy_hops(whole, species, longest)[:most]):
        given, path = number % 2 == 0, folder / "hops" / f"{number}.json"
        if not path.exists():
            try:
                told = given_hop(folder, number, hop, oracle) if given else test_hop(folder, number, hop, oracle)
            except ValueError as error:
                told = f"left out: {error}"
            with whole_file(path) as part:
                part.write_text(json.dumps(f"{hop.name}, {hop.length:.2f} Å, {'given' if given else 'test'}: {told}"))
        print(json.loads(path.read_text()), flush=True)
    tests = [atoms for path in sorted((folder / "hops").glob("*_test.xyz")) for atoms in read(path)]
    if not (folder / "start.xyz").exists() or not tests:
        raise ValueError(f"hops of {species} are needed, some to be given to the samplers and some to test them: a larger longest hop, "
                         "or another structure")  # fmt: skip
    labelled = []
    for atoms, answer in zip(tests, calculate_many(oracle, [bare(a) for a in tests]), strict=True):
        atoms.info[keys.REF_ENERGY] = answer.get_potential_energy()
        atoms.set_array(keys.REF_FORCES, answer.get_forces())
        labelled.append(atoms)
    write(folder / "test.xyz", labelled)


def given_hop(folder: Path, number: int, hop, oracle) -> str:
    """The relaxed ends of a hop that the samplers are told of; the first start is where their dynamics begins."""
    start, end = quench_ends(hop.start, hop.end, oracle, fmax=FMAX)
    write(folder / "hops" / f"{number}_end.xyz", [bare(end)])
    write(folder / "hops" / f"{number}_start.xyz", [bare(start)])
    if not (folder / "start.xyz").exists():
        write(folder / "start.xyz", [bare(start)])
    return f"its end {end.get_potential_energy() - start.get_potential_energy():+.3f} eV from its start"


def test_hop(folder: Path, number: int, hop, oracle) -> str:
    """The relaxed band of a hop that no sampler is given."""
    start, end = quench_ends(hop.start, hop.end, oracle, fmax=FMAX)
    path = neb(start, end, oracle, n_images=7, fmax=2 * FMAX)
    if not (path.converged and 0 < path.saddle_index < 6):
        return "left out: no converged saddle"
    write(folder / "hops" / f"{number}_test.xyz", images_of(path, f"t{number}", hop.ion))
    return f"barrier {path.barrier:.3f} eV"


def images_of(path, name: str, ion: int) -> list[Atoms]:
    """A test hop: its band, and each image rattled."""
    out = []
    for k, image in enumerate(path.images):
        kind = "end" if k == 0 else "saddle" if k == path.saddle_index else "path"
        out.append(Candidate(image, kind, name, ion).to_atoms())
        rng = np.random.default_rng(k)
        out += [Candidate(atoms, "offpath", name, ion).to_atoms() for atoms in rattled(bare(image), RATTLES, rng, 0.07)]
    return out


def sample(
    folder: Path, sampler: str, seed: int, engine: str, species: str, temperatures, labels: int, words: list[str]
) -> Path:
    """One `mlip sample`, to the end of its budget; where it was cut off it goes on."""
    run = folder / f"{sampler}_{seed}"
    starts = sorted((folder / "hops").glob("*_start.xyz"))
    hops = ",".join(f"{{start: {path}, end: {str(path).replace('_start', '_end')}}}" for path in starts)
    begin = time.perf_counter()
    settings = [
        f"engine={engine}", f"mobile={species}", f"sampler={sampler}", f"seed={seed}", f"folder={run}", "model=small", f"hold_out={folder}/test.xyz",
        f"listed_hops.hops=[{hops}]", f"limits.labels={labels}", f"per_round={max(4, labels // 8)}", f"n_initial={max(6, labels // 8)}",
        f"dynamics.temperatures_K=[{','.join(map(str, temperatures))}]", "dynamics.steps=2000", "trainer.max_steps=1500", "trainer.validate_every=250",
        "trainer.logger=null", "n_draws=8", *NEVER, *LESS.get(sampler, []),
    ]  # fmt: skip
    named = {word.split("=")[0] for word in words}
    kept = [setting for setting in settings if setting.split("=")[0] not in named]
    code = cli.main(["sample", str(folder / "start.xyz"), *kept, *words])
    if code == 2:
        raise SystemExit(f"{run} broke off; see above")
    print(f"{run}: {time.perf_counter() - begin:.0f} s")
    return run


def own_barriers(folder: Path, run: Path) -> float | None:
    """Mean absolute error, eV, of the barriers on the last model's own paths between the ends of the test hops."""
    path = run / "own_barriers.json"
    if not path.exists():
        last = max((run / "rounds").glob("*/model/model.pt"))
        calculator, errors = load(last.parent, "cpu"), []
        by_hop: dict[str, list[Atoms]] = {}
        for atoms in read(folder / "test.xyz"):
            if atoms.info["kind"] != "offpath":
                by_hop.setdefault(atoms.info["hop"], []).append(atoms)
        for images in by_hop.values():
            truth = max(a.info[keys.REF_ENERGY] for a in images) - images[0].info[keys.REF_ENERGY]
            try:
                ends = quench_ends(bare(images[0]), bare(images[-1]), calculator, fmax=0.03, steps=200)
                errors.append(abs(neb(*ends, calculator, n_images=7, fmax=0.05, steps=200).barrier - truth))
            except ValueError:  # the model has lost an end
                errors.append(truth)
        with whole_file(path) as part:
            part.write_text(json.dumps(float(np.mean(errors)) if errors else None))
    return json.loads(path.read_text())


def main() -> None:
    """Prepares, runs what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--system", choices=list(SYSTEMS), default="li3po4")
    parser.add_argument("--structure", help="another crystal, one wide cell of it, with CHGNet as oracle")
    parser.add_argument("--species", help="its mobile ion")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--labels", type=int, default=160)
    parser.add_argument(
        "--hops", type=int, default=10, help="classes of hops, shortest first; half of them are the test"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="words")
    asked = parser.parse_args()
    engine, species, repeat, longest, temperatures = SYSTEMS[asked.system]
    cell = crystal(asked.system) if asked.structure is None else bare(read(asked.structure)[0])
    species, repeat = asked.species or species, repeat if asked.structure is None else (1, 1, 1)
    folder = asked.folder.resolve()
    oracle = instantiate(
        cli.compose("label", [f"engine={engine}", "input=a", "output=b"], [cli.CONFIGS]).engine
    ).calculator()
    prepare(folder, cell, oracle, species, repeat, longest, asked.hops)
    runs = {(sampler, seed): sample(folder, sampler, seed, engine, species, temperatures, asked.labels, asked.words)
            for seed in asked.seeds for sampler in asked.samplers}  # fmt: skip
    rows = compare_samplings.rows_of((sampler, run) for (sampler, _), run in runs.items())
    compare_samplings.write(folder, rows)
    console = Console()
    console.print(compare_samplings.table(rows))
    for sampler in asked.samplers:
        own = [own_barriers(folder, runs[sampler, seed]) for seed in asked.seeds]
        found = ", ".join("none" if value is None else f"{1e3 * value:.1f}" for value in own)
        console.print(
            f"{sampler}: barriers on its last model's own paths, MAE in meV, seed by seed: {found}", highlight=False
        )


if __name__ == "__main__":
    sys.exit(main())
