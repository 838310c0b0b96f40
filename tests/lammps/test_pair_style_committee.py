"""Several models in one pair style: their mean moves the atoms, their scatter is the uncertainty of each.

Skipped without LAMMPS, MPI or a compiler.
"""

from functools import partial

import numpy as np
import pytest
import torch
from lammps_run import by_ase, in_lammps, needs_lammps, run
from small import crystal, potential_of

from mlip.data.graph import to_graph
from mlip.electrostatics import EquilibratedCharges, FormalCharges
from mlip.export import export
from mlip.lammps.inputs import write_input
from mlip.lammps.kernel import write_kernel

pytestmark = needs_lammps
ROUNDING = 2e-5  # eV, eV/Å: float32
SIGMA = """fix u all pair 1 mlip uncertainty 0
compute s all pair mlip
compute most all reduce max f_u
variable most equal c_most
fix stop all halt 1 v_most > 1e-3 error continue
dump u all custom 1 sigma.dump id f_u
dump_modify u sort id format float %.16g
thermo_style custom step pe pxx pyy pzz pyz pxz pxy c_s[1]
thermo_modify format float %.16g norm no
run 0
print "sigma $(c_s[1]:%.12g) $(v_most:%.12g)"
unfix stop
thermo_style custom step pe pxx pyy pzz pyz pxz pxy
thermo_modify format float %.16g norm no"""


def exported(folder, name: str, seed: int, head=None, **potential):
    """File of a member: the same network from other random numbers."""
    member = potential_of(head, n_layers=3, born_mayer=None, **potential)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in member.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    path = folder / f"{name}.pt"
    export(member, path, {}, [to_graph(crystal(), member.cutoff, member.levels)], level="pbe", dtype=torch.float32)
    return path


def others(paths) -> str:
    return " ".join(str(path) for path in paths[1:])


@pytest.mark.parametrize("head, n", [(None, 2), (partial(FormalCharges, tolerance=1e-8), 1)])
def test_mean_and_scatter_are_those_of_the_members(plugin, tmp_path, head, n):
    """One member in TorchScript: it has no kernel."""
    paths = [exported(tmp_path, f"member{seed}", seed, head) for seed in range(3)]
    for path in paths[:2]:
        write_kernel(path)
    atoms = crystal(repeat=(3, 1, 1))
    found = in_lammps(plugin, paths[0], atoms, tmp_path, n, SIGMA, more=others(paths))
    assert found["out"].count("mlip: native kernel") == 2 and found["out"].count("mlip: TorchScript") == 1
    results = [by_ase(path, atoms).calc.results for path in paths]
    forces, energies = (np.array([one[name] for one in results]) for name in ("forces", "energy"))
    tolerance = ROUNDING if head is None else 3 * ROUNDING  # of pppm
    assert np.abs(found["forces"] - forces.mean(0)).max() < tolerance
    assert abs(found["energy"] - energies.mean()) < tolerance
    assert np.abs(found["stress"] - np.mean([one["stress"] for one in results], 0)).max() < tolerance / 10
    rows = (tmp_path / "sigma.dump").read_text().split("ITEM: ATOMS")[-1].splitlines()[1:]
    sigma = np.sqrt(((forces - forces.mean(0)) ** 2).sum(2).sum(0) / 2)
    assert sigma.min() > 100 * ROUNDING
    assert np.abs(np.loadtxt(rows)[:, 1] - sigma).max() < ROUNDING
    said = next(line for line in found["out"].splitlines() if line.startswith("sigma "))
    assert abs(float(said.split()[1]) - energies.std(ddof=1)) < ROUNDING
    assert abs(float(said.split()[2]) - sigma.max()) < ROUNDING


def test_what_is_no_committee_is_refused(plugin, tmp_path):
    paths = [exported(tmp_path, f"member{seed}", seed) for seed in range(2)]
    qeq = [exported(tmp_path, f"qeq{seed}", seed, EquilibratedCharges) for seed in range(2)]
    script = tmp_path / "in.mlip"
    write_input(paths[0], crystal(), script, 300.0, 1.0, 0, 0.3, 0)
    right = script.read_text()
    for line, said in (
        (f"{paths[0]} {tmp_path}/none.pt Li O Cl", "none.pt is no file"),
        (f"{paths[0]} {qeq[0]} Li O Cl", "a committee with electrostatics"),
        (f"{paths[0]} Li O", "element of each of the 3 atom types, got 2"),
    ):
        words = right.splitlines()
        text = "\n".join(f"pair_coeff * * {line}" if row.startswith("pair_coeff") else row for row in words)
        script.write_text(text)
        done = run(script, plugin)
        assert done.returncode != 0 and said in done.stdout + done.stderr, done.stdout[-1500:]
