"""MACE: `train SETTINGS.json` within a budget of CPU seconds, or `serve MODEL` (JSON tasks through its ASE calculator).

Model, statistics, loss and optimizer are those of mace_run_train (its own parser and functions); only the
epochs are replaced by a loop whose learning rate anneals as a cosine within the CPU budget, with EMA.
"""

import json
import os
import sys
import time
from importlib.metadata import version

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # as MACE's own calculator does; the files are ours

import ase.io
import torch
from mace import data, modules, tools
from mace.calculators import MACECalculator
from mace.tools import torch_geometric
from mace.tools.model_script_utils import configure_model
from mace.tools.scripts_utils import get_loss_fn, get_optimizer, get_params_options
from mace.tools.train import take_step
from serve import cosine_of_budget, serve
from torch_ema import ExponentialMovingAverage


def load(path):
    calculator = MACECalculator(model_paths=path, device="cpu", default_dtype="float32")
    known = [ase.data.chemical_symbols[z] for z in calculator.z_table.zs]
    return calculator, known, {name: version(name) for name in ("mace-torch", "torch", "e3nn", "matscipy", "ase")}


def parsed(settings):
    """The arguments of mace_run_train, so that whatever is not named here has MACE's own default."""
    words = ["--name", "bench", "--default_dtype", "float32", "--E0s", "average", "--r_max", str(settings["cutoff"])]
    for name, value in settings["mace"].items():
        words += [f"--{name}", str(value)]
    args = tools.build_default_arg_parser().parse_args(words)
    return tools.check_args(args)[0]


def loaders(settings, args):
    frames = ase.io.read(settings["train"], ":")
    keys = data.KeySpecification(info_keys={"energy": "energy"}, arrays_keys={"forces": "forces"})
    for atoms in frames:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        atoms.info["energy"], atoms.arrays["forces"] = energy, forces
    configurations = data.config_from_atoms_list(frames, key_specification=keys, head_name="Default")
    table = tools.get_atomic_number_table_from_zs(z for atoms in frames for z in atoms.numbers)
    graphs = [
        data.AtomicData.from_config(c, z_table=table, cutoff=args.r_max, heads=["Default"]) for c in configurations
    ]
    loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=args.batch_size, shuffle=True, drop_last=True)
    energies = data.compute_average_E0s(configurations, table)
    return loader, table, [[energies[z] for z in table.zs]]


def train(settings):
    args = parsed(settings)
    tools.set_seeds(args.seed)
    torch.set_default_dtype(torch.float32)
    loader, table, energies = loaders(settings, args)
    energies = torch.tensor(energies).numpy()
    args.avg_num_neighbors = modules.compute_avg_num_neighbors(loader)
    args.mean, args.std = modules.scaling_classes[args.scaling](loader, energies)
    args.compute_energy, args.compute_forces, args.compute_dipole, args.compute_polarizability = (
        True,
        True,
        False,
        False,
    )
    model, outputs = configure_model(args, loader, energies, heads=["Default"], z_table=table)
    loss = get_loss_fn(args, False, False)
    optimizer = get_optimizer(args, get_params_options(args, model))
    ema = ExponentialMovingAverage(model.parameters(), decay=settings["ema"])
    steps = 0
    while (factor := cosine_of_budget(settings["cpu_budget"])) is not None:
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = factor * args.lr
            value, _ = take_step(model, loss, batch, optimizer, ema, outputs, args.clip_grad, torch.device("cpu"))
            steps += 1
            if steps % 50 == 0:
                print(
                    f"{time.process_time():.0f} CPU s  step {steps}  loss {float(value):.4f}",
                    file=sys.stderr,
                    flush=True,
                )
            if (factor := cosine_of_budget(settings["cpu_budget"])) is None:
                break
    with ema.average_parameters():
        torch.save(model, settings["model"])
    return {
        "cpu_s": time.process_time(),
        "steps": steps,
        "epochs": steps / len(loader),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


if __name__ == "__main__":
    verb, argument = sys.argv[1:]
    if verb == "train":
        with open(argument) as file:
            print(json.dumps(train(json.load(file))))
    else:
        serve(load, argument)
