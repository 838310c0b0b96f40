"""Random weights of the peers, in their environment: `random_models.py FOLDER` writes mace64.model and nep4.txt.

MACE: the defaults of mace_run_train with 64 channels, even scalars and odd vectors, l up to 3. NEP4: the defaults of GPUMD
(gpumd.org, nep.txt) with 30 neurons, cutoffs 6 and 5 Å. Speed does not depend on the weights.
"""

import os
import sys
from pathlib import Path

import numpy as np

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # MACE reads tables of its own that way

SYMBOLS = ("Li", "P", "S", "Cl")
NEURONS, N_MAX, BASIS = 30, 4, 8


def write_mace(path: Path) -> None:
    import torch
    from ase.data import atomic_numbers
    from e3nn.o3 import Irreps
    from mace import modules

    torch.manual_seed(0)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=5.0, num_bessel=8, num_polynomial_cutoff=5, max_ell=3, interaction_cls=block, interaction_cls_first=block,
        num_interactions=2, num_elements=len(SYMBOLS), hidden_irreps=Irreps("64x0e + 64x1o"), MLP_irreps=Irreps("16x0e"),
        gate=torch.nn.functional.silu, atomic_energies=np.zeros(len(SYMBOLS)), avg_num_neighbors=26.0,
        atomic_numbers=[atomic_numbers[symbol] for symbol in SYMBOLS], correlation=3, radial_MLP=[64, 64, 64],
        radial_type="bessel", atomic_inter_scale=1.0, atomic_inter_shift=0.0,
    )  # fmt: skip
    torch.save(model, path)


def write_nep(path: Path) -> None:
    random, n = np.random.default_rng(0), len(SYMBOLS)
    width = (N_MAX + 1) * (1 + 4 + 1)  # radial; three bodies of l 1 to 4; four bodies
    network = n * NEURONS * (width + 2) + 1
    descriptor = n * n * (N_MAX + 1) * (BASIS + 1) * 2
    head = [
        f"nep4 {n} {' '.join(SYMBOLS)}", "cutoff 6 5 100 60", f"n_max {N_MAX} {N_MAX}", f"basis_size {BASIS} {BASIS}",
        "l_max 4 2 0", f"ANN {NEURONS} 0",
    ]  # fmt: skip
    values = [*(0.1 * random.normal(size=network + descriptor)), *np.ones(width)]
    path.write_text("\n".join([*head, *(f"{value:.7e}" for value in values)]) + "\n")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_nep(folder / "nep4.txt")
    write_mace(folder / "mace64.model")
