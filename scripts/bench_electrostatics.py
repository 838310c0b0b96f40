"""Cost of the long-range head alone against the number of atoms, and of fixed charges against torch-pme's P3M.

    python scripts/bench_electrostatics.py                     # 96 ... 111,132 atoms, docs/benchmarks/electrostatics_scaling.md
    python scripts/bench_electrostatics.py --cells 2 3 5 --output ""

Perturbed Li2O supercells of n x n x n conventional cells. Times are CPU seconds of one thread, so that other work on
the machine does not count; memory is the largest the process has held so far, less what it held at the start.
"""

import argparse
import math
import resource
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mlip import units
from mlip.electrostatics.batch import RelaxationSettings, relaxed
from mlip.electrostatics.functional import ChargeFunctional, ChargeState, energies, unconstrained
from mlip.electrostatics.operator import (
    CoulombOperator,
    System,
    apply_operator,
    detached,
    gradient_carrier,
    mesh_operator,
)
from mlip.electrostatics.pme import ewald_split, particle_mesh
from mlip.electrostatics.preconditioner import diagonal_preconditioner, preconditioner
from mlip.electrostatics.solvers import minimise_with

BULK = torch.tensor([True, True, True])
CORNERS = torch.tensor([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], dtype=torch.float64)


def lithium_oxide(n_cells: int):
    """Positions, cell, formal charges and widths of a perturbed supercell."""
    corner = torch.cat([CORNERS + 0.25, CORNERS + 0.75, CORNERS]) * 4.62
    steps = torch.arange(n_cells, dtype=torch.float64)
    shifts = torch.cartesian_prod(steps, steps, steps).reshape(-1, 3) * 4.62
    positions = (shifts[:, None] + corner).reshape(-1, 3)
    charges = torch.tensor([1.0] * 8 + [-2.0] * 4, dtype=torch.float64).repeat(len(shifts))
    positions = positions + 0.1 * torch.randn(positions.shape, dtype=torch.float64)
    cell = 4.62 * n_cells * torch.eye(3, dtype=torch.float64)
    return positions, cell, charges, torch.where(charges > 0, 1.28, 0.66).double()


def equilibration(charges):
    """chi 3 +- 0.5 V (Li) and 8.5 +- 0.5 V (O), J 4.8 and 12 eV/e^2, total charge zero."""
    none = charges.new_zeros(0, 3)
    chi = torch.where(charges > 0, 3.0, 8.5).double() + 0.5 * torch.randn_like(charges)
    hardness = torch.where(charges > 0, 4.8, 12.0).double()
    rows, target = torch.ones(1, len(charges)).double(), torch.zeros(1).double()
    return unconstrained(chi, hardness, none, none[:, 0])._replace(constraint=rows, target=target)


def minimum(functional: ChargeFunctional, operator: CoulombOperator, start: ChargeState, kind=preconditioner):
    """State and steps of conjugate gradients to a slope of 1e-8 V."""
    return minimise_with(kind(functional, operator), functional, operator, start, 1e-8)


def memory() -> float:
    """GiB"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def clock(action):
    """Result and CPU seconds."""
    start = time.process_time()
    result = action()
    return result, time.process_time() - start


def bench_head(n_cells: int, tolerance: float, diagonal_up_to: int) -> dict:
    """One relaxation with energy, forces and virial; the steps with the diagonal alone for comparison."""
    positions, cell, charges, width = lithium_oxide(n_cells)
    functional = equilibration(charges)
    cold = ChargeState(charges, torch.zeros_like(functional.dipole_bias), functional.target)
    positions.requires_grad_()
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deformation = torch.eye(3, dtype=torch.float64) + strain

    def head():
        system = System(positions @ deformation, cell @ deformation, BULK)
        operator = mesh_operator(system, width, tolerance, False, False)
        constant = detached(operator)
        state, steps = minimum(functional, constant, cold)
        energy = energies(functional, constant, state).sum()
        energy = energy + gradient_carrier(operator, system.positions, state.charges, state.dipoles).sum()
        torch.autograd.grad(energy, (positions, strain))
        return state, steps

    (state, steps), seconds = clock(head)
    row = {"atoms": len(charges), "seconds": seconds, "us/atom": 1e6 * seconds / len(charges), "steps": steps}
    with torch.no_grad():
        system = System(positions, cell, BULK)
        operator, row["setup s"] = clock(lambda: mesh_operator(system, width, tolerance, False, False))
        moved = functional.electronegativity + 1e-3 * torch.randn_like(charges)
        row["warm steps"] = minimum(functional._replace(electronegativity=moved), operator, state)[1]
        if len(charges) <= diagonal_up_to:
            row["steps, diagonal"] = minimum(functional, operator, cold, diagonal_preconditioner)[1]
    row["mesh"] = "x".join(map(str, operator.mesh.split.mesh.shape))
    row["pairs/atom"] = len(operator.mesh.pairs.centre) / len(charges)
    row["GiB"] = memory()
    return row


def forces_ours(positions, cell, charges, tolerance: float, narrowest: float):
    r = positions.clone().requires_grad_()
    width = torch.zeros_like(charges)
    split, none = ewald_split(r, cell, BULK, width, tolerance, narrowest), charges.new_zeros(0, 3)
    mesh = particle_mesh(r, split, width, False, False)
    operator = CoulombOperator(None, None, None, mesh, split.box)
    with torch.no_grad():
        energy = 0.5 * charges @ apply_operator(operator, charges, none)[0]
    energy = energy + gradient_carrier(operator, r, charges, none).sum()
    return -torch.autograd.grad(energy, r)[0]


def forces_torch_pme(positions, cell, charges, cutoff: float, smearing: float, spacing: float):
    import torchpme
    from vesin import NeighborList

    calculator = torchpme.P3MCalculator(
        torchpme.CoulombPotential(smearing=smearing), mesh_spacing=spacing, interpolation_nodes=5
    ).to(torch.float64)
    neighbours = NeighborList(cutoff=cutoff, full_list=False)
    i, j, shift = neighbours.compute(points=positions.numpy(), box=cell.numpy(), periodic=True, quantities="ijS")
    pairs = torch.stack([torch.from_numpy(i.astype(np.int64)), torch.from_numpy(j.astype(np.int64))], 1)
    r = positions.clone().requires_grad_()
    vector = r[pairs[:, 1]] - r[pairs[:, 0]] + torch.from_numpy(shift).to(r) @ cell
    potential = calculator(charges[:, None], cell, r, pairs, vector.norm(dim=1))
    energy = units.COULOMB * (charges[:, None] * potential).sum()
    return -torch.autograd.grad(energy, r)[0]


def bench_fixed_charges(n_cells: int, arguments) -> dict:
    """Energy and forces of formal point charges, neighbour search included, ours and torch-pme's P3M."""
    positions, cell, charges, _ = lithium_oxide(n_cells)
    exact = forces_ours(positions, cell, charges, 1e-9, 1.4) if len(charges) < 20000 else None
    ours, seconds = clock(lambda: forces_ours(positions, cell, charges, arguments.fixed_tolerance, 1.2))
    cutoff = arguments.cutoff
    theirs, their_seconds = clock(
        lambda: forces_torch_pme(positions, cell, charges, cutoff, cutoff / 5, cutoff / 5 / arguments.refine)
    )
    row = {"atoms": len(charges), "ours s": seconds, "torch-pme s": their_seconds, "ratio": their_seconds / seconds}
    if exact is not None:
        row["ours error eV/Å"] = float((ours - exact).square().mean().sqrt())
        row["torch-pme error eV/Å"] = float((theirs - exact).square().mean().sqrt())
    return row


def bench_crossover(n_cells: int) -> dict:
    """Structure factors (tolerance 1e-5) against the mesh (1e-7): charges, energy and forces."""
    positions, cell, charges, width = lithium_oxide(n_cells)
    functional = equilibration(charges)
    r = positions.clone().requires_grad_()
    cold = ChargeState(charges, torch.zeros_like(functional.dipole_bias), functional.target)

    def forces(mesh_above: int):
        settings = RelaxationSettings(1e-5, mesh_above, False)
        _, energy = relaxed(functional, System(r, cell, BULK), width, cold, settings)
        return torch.autograd.grad(energy.sum(), r)[0]

    def fastest(mesh_above: int):
        return min((clock(lambda: forces(mesh_above)) for _ in range(3)), key=lambda run: run[1])

    (f, seconds), (g, mesh_seconds) = fastest(10**9), fastest(0)
    row = {"atoms": len(charges), "waves ms": 1e3 * seconds, "mesh ms": 1e3 * mesh_seconds}
    return row | {"forces differ eV/Å": float((f - g).abs().max())}


def exponent(rows: list[dict], name: str, smallest: int = 1000) -> float:
    """Slope of log time over log atoms."""
    used = [(math.log(row["atoms"]), math.log(row[name])) for row in rows if row["atoms"] > smallest]
    return float(np.polyfit(*zip(*used, strict=True), 1)[0]) if len(used) > 1 else float("nan")


def table(title: str, rows: list[dict]) -> tuple[Table, str]:
    """For the terminal and in markdown."""
    names = list(max(rows, key=len))
    text = [[f"{row[n]:.3g}" if isinstance(row.get(n), float) else str(row.get(n, "")) for n in names] for row in rows]
    shown = Table(*names, title=title)
    for line in text:
        shown.add_row(*line)
    lines = ["| " + " | ".join(line) + " |" for line in [names, ["---"] * len(names), *text]]
    return shown, f"## {title}\n\n" + "\n".join(lines) + "\n"


def heading(arguments) -> str:
    return (
        "# Scaling of the electrostatic head\n\nWritten by `python scripts/bench_electrostatics.py` on "
        f"{time.strftime('%Y-%m-%d')}, tolerance {arguments.tolerance:g}. CPU seconds of one thread; GiB is the "
        "largest memory held above that of a small system. `steps` of conjugate gradients to a slope of 1e-8 V from "
        "nothing; `warm` from charges of electronegativities that were 1 mV different; `diagonal` with the diagonal "
        "as only preconditioner. Errors of forces are root mean squares against a tolerance of 1e-9. torch-pme is run "
        f"with 5 nodes, cutoff {arguments.cutoff:g} Å, smearing a fifth of it, {arguments.refine:g} mesh points per "
        "smearing, and vesin's neighbours.\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[2, 3, 5, 9, 14, 21], help="supercells n: 12 n^3 atoms")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of the head: force error between unit charges")
    parser.add_argument("--diagonal-up-to", type=int, default=40000, help="atoms; count steps with the diagonal too")
    parser.add_argument("--peer-up-to", type=int, default=40000, help="atoms; compare with torch-pme")
    parser.add_argument("--fixed-tolerance", type=float, default=5e-6, help="of ours in the comparison")
    parser.add_argument("--cutoff", type=float, default=6.0, help="Å, of torch-pme; its smearing is a fifth")
    parser.add_argument("--refine", type=float, default=3.0, help="mesh points of torch-pme per smearing")
    parser.add_argument("--output", default="docs/benchmarks/electrostatics_scaling.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    console = Console()
    bench_head(2, arguments.tolerance, 0)  # first call: libraries warm up
    base = memory()
    text = [heading(arguments)]

    def show(title, rows):
        shown, markdown = table(title, rows)
        console.print(shown)
        text.append(markdown)

    heads = []
    for n in arguments.cells:
        heads.append(bench_head(n, arguments.tolerance, arguments.diagonal_up_to))
        heads[-1]["GiB"] -= base
    show(
        f"Charge equilibration, energy, forces, virial; exponent {exponent(heads, 'seconds'):.2f} above 1000 atoms",
        heads,
    )
    show("Waves against mesh", [bench_crossover(n) for n in range(1, 6)])
    peers = [bench_fixed_charges(n, arguments) for n in arguments.cells if 12 * n**3 <= arguments.peer_up_to]
    if peers:
        ours, theirs = exponent(peers, "ours s"), exponent(peers, "torch-pme s")
        show(f"Fixed charges, energy and forces; exponents {ours:.2f} and {theirs:.2f} (torch-pme P3M)", peers)
    if arguments.output:
        Path(arguments.output).write_text("\n".join(text))


if __name__ == "__main__":
    main()
