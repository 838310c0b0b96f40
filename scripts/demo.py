"""`make demo`: train on shipped DFT data, export, molecular dynamics of a supercell, evaluation; ends with its report."""

import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mlip import cli

RUN = Path("runs/li3incl6")
MD = RUN / "md"
START = "datasets/li3incl6/li3incl6_gpaw.xyz@2"  # a frame of an MD at 600 K
CRYSTAL = "datasets/li3incl6/li3incl6_gpaw.xyz@0"
OVERRIDES = sys.argv[1:]  # for the training, e.g. trainer.max_steps=100


def step(title: str, *words: str) -> None:
    """One mlip command, shown as a person would type it."""
    Console().rule(title)
    Console().print("mlip " + " ".join(words), style="bold", highlight=False, soft_wrap=True)
    if code := cli.main(list(words)):
        sys.exit(code)


def rows(training: dict, dynamics: dict) -> list[tuple[str, str, str]]:
    """(quantity, value, unit) of the closing table."""
    held_out = training["test"]["total"]
    return [
        ("energy RMSE, held-out frames", f"{held_out['energy_rmse_meV_per_atom']:.2f}", "meV/atom"),
        ("force RMSE, held-out frames", f"{held_out['force_rmse_meV_per_A']:.1f}", "meV/Å"),
        ("stress RMSE, held-out frames", f"{held_out['stress_rmse_GPa']:.3f}", "GPa"),
        ("training", f"{training['cpu_s']:.0f}", "CPU s"),
        (f"MD of {dynamics['n_atoms']} atoms", f"{dynamics['us_per_atom_step']:.0f}", "µs/atom/step"),
        ("MD", f"{dynamics['ns_per_day']:.2f}", "ns/day"),
        ("mean temperature", f"{dynamics['temperature_K']:.0f}", "K"),
        (f"energy drift in {dynamics['time_ps']:g} ps, NVE", f"{dynamics['drift_eV_per_atom_ps']:.1e}", "eV/atom/ps"),
    ]


def main() -> None:
    start = time.perf_counter()
    again = ["overwrite=true"] if (RUN / "model.pt").exists() else []  # one that was cut off goes on
    step("training", "train", "experiment=li3incl6", "model=small", f"folder={RUN}", *again, *OVERRIDES)
    step("molecular dynamics", "md", str(RUN / "model.pt"), START, f"folder={MD}", "ensemble=nve",
         "temperature_K=600", "repeat=[3,3,2]", "steps=2000", "timestep_fs=2")  # fmt: skip
    # intervals of so short a dynamics are wide; without `only`, `evaluation=short` asks for more
    step("evaluation", "evaluate", str(RUN), CRYSTAL, "evaluation=short", "mobile=Li", "charge=1", "repeat=[2,2,1]",
         "temperatures_K=[700,800,950,1100]", "only=[accuracy,lattice,eos,diffusion,rdf,cost]",
         "properties.diffusion.dynamics.equilibration_ps=0.5", "properties.diffusion.dynamics.production_ps=4",
         "properties.cost.largest=160")  # fmt: skip
    table = Table("", "", "", title="Li3InCl6 from PBE data", show_header=False)
    found = rows(json.loads((RUN / "metrics.json").read_text()), json.loads((MD / "summary.json").read_text()))
    for quantity, value, unit in found:
        table.add_row(quantity, value, unit)
    table.columns[1].justify = "right"
    console = Console()
    console.rule()
    console.print(table)
    for plot in sorted([*(RUN / "plots").glob("*.png"), *MD.glob("*.png")]):
        console.print(f"  {plot}", highlight=False)
    console.print(f"  {RUN / 'evaluation' / 'report.html'}: open it in a browser", highlight=False)
    console.print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
