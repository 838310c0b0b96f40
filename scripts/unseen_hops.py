#!/usr/bin/env python3
"""Hops of Li in orderings that no training starts from: bands to be labelled by DFT, and kept out of training.

    pip install chgnet --no-deps nvidia-ml-py3         # relaxes the bands; DFT labels come afterwards
    scripts/unseen_hops.py datasets/li3ycl6/start.xyz 2,3 datasets/li3ycl6/sites.xyz hops.xyz
    mlip label hops.xyz datasets/li3ycl6/li3ycl6_hops_gpaw.xyz engine=gpaw engine.kpoints=[1,1,2]

Every symmetry-distinct hop of a Li ion into an empty place of Li, up to 4 Å, with its start, its end and the images between. The
paths are those of CHGNet, so that they are of none of the models that are judged by them. sites.xyz: Li at each of its places.
"""

import sys

from chgnet.model.dynamics import CHGNetCalculator

from mlip.data.structures import read, write
from mlip.sampling.candidate import Candidate
from mlip.sampling.transition_states import ListedHops
from mlip.transitions.neb import neb
from mlip.transitions.quench import quench_ends

N_IMAGES, LONGEST = 5, 4.0  # with the ends; Å


def main() -> None:
    """Writes the bands."""
    start, orderings, sites_file, hops_file = sys.argv[1:]
    calculator, structures, reference, out = CHGNetCalculator(use_device="cpu"), read(start), read(sites_file)[0], []
    listed = ListedHops(reference=sites_file, max_length_A=LONGEST)
    for number in map(int, orderings.split(",")):
        for hop in listed.into_empty_sites(structures[number], reference, "Li"):
            try:
                ends = quench_ends(hop.start, hop.end, calculator, fmax=0.02, steps=300)
                path = neb(*ends, calculator, n_images=N_IMAGES, fmax=0.05, steps=300)
            except ValueError as error:
                print(f"ordering {number}, {hop.name}: left out: {error}")
                continue
            inner = 0 < path.saddle_index < N_IMAGES - 1
            print(f"ordering {number}, {hop.name}: {hop.length:.2f} Å, barrier {path.barrier:.3f} eV by CHGNet"
                  f"{'' if path.converged else ', not converged'}{'' if inner else ', left out: no saddle'}")  # fmt: skip
            if inner:
                name = f"t{len({atoms.info['hop'] for atoms in out})}"
                for k, image in enumerate(path.images):
                    kind = "end" if k == 0 else "saddle" if k == path.saddle_index else "path"
                    out.append(
                        Candidate(image, kind, name, hop.ion, f"ordering {number}, {hop.name}, image {k}").to_atoms()
                    )
    write(hops_file, out)


if __name__ == "__main__":
    main()
