"""Input of LAMMPS for an exported model and a structure: a data file, and a script that runs NVT dynamics."""

import json
import zipfile
from pathlib import Path

from ase import Atoms
from ase.io.lammpsdata import write_lammps_data

from mlip.archive import check_archive
from mlip.data.total_charge import total_charge
from mlip.errors import InputError

FLOW_ABOVE = 1500  # atoms; above, conjugate gradients over kspace cost less than every process's own solution
EXPORT_AGAIN = "`mlip export RUN` writes one"

SCRIPT = """# {model}, written by `mlip lammps input`; run it with `lmp -in {name}` or `mpirun -np 4 lmp -in {name}`
units         metal
atom_style    {style}
boundary      {boundary}
newton        on
{dielectric}read_data     {data}

pair_style    mlip{options}
pair_coeff    * * {model} {symbols}
{kspace}
neighbor      {skin:g} bin
neigh_modify  every 1 delay 0 check yes

timestep      {timestep:g}    # ps
velocity      all create {temperature:g} {seed} mom yes rot no dist gaussian
fix           nvt all nvt temp {temperature:g} {temperature:g} {damping:g}
thermo        10
thermo_style  custom step time temp pe etotal press
dump          atoms all custom 100 {stem}.dump id element xu yu zu
dump_modify   atoms element {symbols} sort id
run           {steps}
"""

KSPACE = """
# the charges are Gaussians of width {width:g} Å: the reciprocal part of the lattice sum is all of their energy
kspace_style  pppm 1e-6
kspace_modify gewald {gewald:.16g} order 7
"""


def stages_in(model: Path) -> dict:
    """How the file is run in stages. Raises InputError, with the reason, for one that cannot be split over processes."""
    check_archive(model, "exported model", EXPORT_AGAIN)
    with zipfile.ZipFile(model) as archive:
        names = [name for name in archive.namelist() if name.endswith("extra/metadata.json")]
        metadata = json.loads(archive.read(names[0])) if names else {}
    if metadata.get("format") != "torchscript":
        raise InputError(f"{model} is no TorchScript export, which LAMMPS needs: mlip export RUN format=torchscript")
    if "stages" not in metadata:
        raise InputError(f"{model} is from before potentials could be split over processes: run `mlip export` again")
    if "refused" in metadata["stages"]:
        raise InputError(
            f"{model} does not run in LAMMPS: {metadata['stages']['refused']}; use mlip md, or another head"
        )
    return metadata["stages"]


def write_input(
    model: Path,
    atoms: Atoms,
    script: Path,
    temperature_K: float,
    timestep_fs: float,
    steps: int,
    skin: float,
    seed: int,
) -> dict:
    """Write the script and, beside it, a data file with the structure; returns what the model's file says of its stages.

    skin  Å, how far beyond the cutoff the neighbour list reaches
    Charges that are fixed, that bonds transfer, or that flow in a neutral cell of many atoms, are left to `kspace_style
    pppm` in a crystal that is periodic in all directions; any other charges, and those of a slab, are solved by every
    process.
    """
    stages = stages_in(model)
    if atoms.cell.rank < 3:
        raise InputError("LAMMPS needs a box: give the structure a cell, e.g. atoms.center(vacuum=10)")
    symbols = [symbol for symbol in stages["elements"] if symbol in set(atoms.symbols)]
    if foreign := sorted(set(atoms.symbols) - set(symbols)):
        raise InputError(f"no parameters for {', '.join(foreign)} in {model}, only for {', '.join(stages['elements'])}")
    charge = total_charge(atoms.info) or 0.0
    flowing = stages.get("equilibrated") if len(atoms) > FLOW_ABOVE and not charge else None
    summed = (stages["fixed"] or stages.get("bonded") or flowing) if atoms.pbc.all() else None
    atoms = atoms.copy()
    atoms.wrap()
    atoms.set_initial_charges([summed["charges"][symbol] if summed else 0.0 for symbol in atoms.symbols])
    style, data = "charge" if stages["global"] else "atomic", script.with_suffix(".data")
    script.parent.mkdir(parents=True, exist_ok=True)
    with open(data, "w", encoding="ascii") as file:
        write_lammps_data(file, atoms, specorder=symbols, masses=True, atom_style=style)
    kspace = KSPACE.format(width=summed["width"], gewald=0.5 / summed["width"]) if summed else ""
    dielectric = f"dielectric    {summed['dielectric']:.16g}\n" if summed and "dielectric" in summed else ""
    reads_charge = charge and (stages["global"] or stages.get("charge_energy"))
    options = (" kspace" if summed else "") + (f" charge {charge:.16g}" if reads_charge else "")
    script.write_text(
        SCRIPT.format(
            model=model.resolve(), name=script.name, stem=script.stem, style=style, data=data.name, options=options,
            boundary=" ".join("p" if periodic else "s" for periodic in atoms.pbc), symbols=" ".join(symbols), kspace=kspace,
            dielectric=dielectric,
            skin=skin, timestep=1e-3 * timestep_fs, temperature=temperature_K, damping=0.1, steps=steps, seed=seed + 1,
        ),
        encoding="utf-8",
    )  # fmt: skip
    return stages
