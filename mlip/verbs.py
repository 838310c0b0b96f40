"""What each verb of the command does with its config: names become objects here, the library is handed objects."""

from functools import partial
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf


def train(cfg: DictConfig) -> None:
    """Train a potential on labelled structures.

    mlip train data.files=my.xyz
    mlip train data.files=[a.xyz,vasp_runs/] model=large trainer.max_seconds=3600 name=mine
    mlip train experiment=li3incl6
    mlip train -m experiment=li3incl6 model=small,medium seed=1,2
    mlip train -m material=halide data.files=my.xyz material.cutoff=5,6,7 model=small,qeq hold_out=hops.xyz

    A run is one folder, runs/NAME: config.yaml, metrics.csv, metrics.json, logs, checkpoints, plots, model.pt.
    The same command again goes on with a run that was cut off.
    """
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    from mlip.sampling.ranking import hops_of
    from mlip.training.checkpoint import read_run
    from mlip.training.finetune import fine_tune, start
    from mlip.training.module import TrainingModule
    from mlip.training.run_folder import claim, export_run, furnish

    config, overwrite, folder = run_config(cfg), cfg.overwrite, Path(cfg.folder)
    if cfg.get("hold_out"):
        hops_of(cfg.hold_out)  # a sweep must not end with a file that cannot rank it
    if rank_zero_only.rank == 0:  # with several devices, Lightning starts this command once for each
        claim(folder, config, overwrite)
    pl.seed_everything(cfg.seed, verbose=False)
    previous = read_run(cfg.checkpoint)["mlip"]["statistics"] if cfg.checkpoint else None
    data = make(cfg.data, cutoff=cfg.model.network.cutoff, statistics=previous)
    data.setup("fit")
    if rank_zero_only.rank == 0:
        furnish(folder, config, data)
    if cfg.checkpoint:
        potential, statistics = fine_tune(cfg.checkpoint, partial(build, config), data.statistics, data.train_dataloader())
    else:
        potential, statistics = start(partial(build, config), data.statistics, data.train_dataloader())
    module = TrainingModule(
        potential.to(getattr(torch, cfg.dtype)), make(cfg.loss), make(cfg.optimizer), make(cfg.scheduler),
        ema_decay=cfg.ema_decay, statistics=statistics, config=config, config_types=data.config_types, log_every=cfg.log_every,
    )  # fmt: skip
    make(cfg.trainer)(module, data, folder, resume=True)
    if rank_zero_only.rank == 0:
        for level in statistics["levels"]:
            name = "model.pt" if len(statistics["levels"]) == 1 else f"model_{level}.pt"
            export_run(folder, folder / name, build, level=level)


def run_config(cfg: DictConfig) -> dict:
    """All that decides a run, plain; what a material decides stands resolved in the other keys."""
    config = OmegaConf.to_container(cfg, resolve=True)
    return {name: value for name, value in config.items() if name not in ("material", "hold_out", "overwrite")}


def is_done(cfg: DictConfig) -> bool:
    """Whether the run of this config is finished, so that a sweep that was cut off goes on behind it."""
    from mlip.training.run_folder import is_finished

    return not cfg.overwrite and is_finished(Path(cfg.folder), run_config(cfg))


def rank(configs: list[DictConfig]) -> None:
    """After a sweep: its runs by their errors on the hops of hold_out, as a table and as ranking.csv beside their folders."""
    from rich.console import Console

    import mlip
    from mlip.sampling import ranking

    folders = [Path(cfg.folder) for cfg in configs]
    rows = ranking.rank({folder.name: folder for folder in folders}, ranking.hops_of(configs[0].hold_out), mlip.load_calculator)
    Console().print(ranking.table(rows))
    ranking.write(folders[0].parent / "ranking.csv", rows)
    print(folders[0].parent / "ranking.csv")


def make(config: DictConfig, **arguments):
    """The object that a config names."""
    return instantiate(config, _convert_="all", **arguments)


def build(config: dict, statistics: dict):
    """The untrained potential of a resolved config."""
    return make(OmegaConf.create(config["model"]))(statistics=statistics)


def export(cfg: DictConfig) -> None:
    """Turn a run into a file that works without mlip: TorchScript, or AOTInductor for this machine.

    mlip export runs/li3incl6
    mlip export runs/li3incl6 format=aoti
    mlip export runs/li3incl6 dtype=float64 path=double.pt
    mlip export run=[runs/a,runs/b,runs/c,runs/d]    a committee: mean and sigma
    mlip export runs/li3incl6 uncertainty=last_layer
    """
    from mlip.training.run_doubt import export_with_doubt
    from mlip.training.run_folder import export_run

    def data_of(config: dict):
        return make(OmegaConf.create(config["data"]), cutoff=config["model"]["network"]["cutoff"])

    runs = [Path(run) for run in ([cfg.run] if isinstance(cfg.run, str) else cfg.run)]
    if cfg.uncertainty not in (None, "last_layer"):
        raise ValueError(f"uncertainty is last_layer or null, got {cfg.uncertainty!r}; several runs make a committee")
    if cfg.uncertainty and len(runs) > 1:
        raise ValueError("a committee of last layers is not offered: give one run, or leave uncertainty=null")
    name = "committee" if len(runs) > 1 else cfg.uncertainty or "model"
    path = Path(cfg.path or (runs[0].parent if len(runs) > 1 else runs[0]) / f"{name}{'.pt2' if cfg.format == 'aoti' else '.pt'}")
    how = {"format": cfg.format, "dtype": cfg.dtype, "level": cfg.level, "n_frames": cfg.n_frames}
    if name == "model":
        metadata = export_run(runs[0], path, build, **how)
    else:
        metadata = export_with_doubt(runs, path, build, data_of, cfg.n_draws, cfg.calibrate, **how)
        found = metadata["uncertainty"]
        scales = ", ".join(f"{name} {value:.2f}" for name, value in found["force_scale"].items())
        print(f"sigma calibrated on {found['frames']} frames: energy times {found['energy_scale']:.2f}, forces times {scales}")
    worst = metadata["parity"]
    print(f"{path}: {metadata['dtype']}, energy within {worst['energy']:.1e} eV/atom and forces within "
          f"{worst['forces']:.1e} eV/Å of the live potential")  # fmt: skip


def predict(cfg: DictConfig) -> None:
    """Label structures with an exported model; prints errors where the input has labels.

    mlip predict model.pt in.xyz out.xyz
    """
    from rich.console import Console
    from rich.progress import track

    import mlip
    from mlip.data.structures import read, write
    from mlip.training.labelled import errors
    from mlip.training.table import error_table

    structures = read(cfg.input)
    calculator = mlip.load_calculator(cfg.model, device=cfg.device, dtype=cfg.dtype)
    starts = range(0, len(structures), cfg.batch_size)
    labelled = [
        atoms
        for start in track(starts, "predicting", transient=True)
        for atoms in calculator.calculate_many(structures[start : start + cfg.batch_size])
    ]
    write(cfg.output, labelled)
    found = errors(labelled)
    if found["total"]:
        Console().print(error_table(found, f"{cfg.model} against the labels of {cfg.input}"))
    print(f"{cfg.output}: {len(labelled)} structures")


def md(cfg: DictConfig) -> None:
    """Molecular dynamics with an exported model.

    mlip md model.pt start.xyz repeat=[2,2,2] temperature=600 steps=100000
    mlip md model.pt start.xyz ensemble=npt pressure=0.1 folder=runs/npt

    The same command again goes on with a run that was cut off.
    """
    import ase.io

    import mlip
    from mlip.md.guard import GuardStop
    from mlip.md.plots import plot
    from mlip.md.run import run

    calculator = mlip.load_calculator(cfg.model, device=cfg.device, dtype=cfg.dtype, skin=cfg.skin)
    settings = ["steps", "timestep_fs", "repeat", "initial_temperature_K", "masses", "seed", "frame_every", "thermo_every",
                "state_every"]  # fmt: skip
    settings = {name: OmegaConf.to_container(cfg)[name] for name in settings}
    try:
        summary = run(ase.io.read(cfg.structure), calculator, cfg.folder, make(cfg.ensemble), guard=make(cfg.guard), **settings)
    except GuardStop as stop:
        raise ValueError(str(stop)) from stop
    plot(cfg.folder)
    print(f"{cfg.folder}: " + ", ".join(f"{name} {value:.4g}" for name, value in summary.items() if value is not None))


def data_check(cfg: DictConfig) -> int:
    """Look for wrong labels in files: signs, units, missing, duplicates, outliers; exit code 1 where errors are found.

    mlip data check a.xyz OUTCAR
    mlip data check data=llzo
    """
    from rich.console import Console

    from mlip.data.doctor import check, has_errors, table

    plain = OmegaConf.to_container(cfg.data, resolve=True)
    asked = ["files", "validation_files", "test_files", "split", "remove_net_force"]
    findings = check(**{name: plain[name] for name in asked})
    Console().print(table(findings))
    return int(has_errors(findings))


def evaluate(cfg: DictConfig) -> int:
    """Put a model, or any calculator of ASE, to the test: accuracy, static properties, diffusion, cost; ends with a report.

    mlip evaluate runs/li3incl6 start.cif mobile=Li charge=1
    mlip evaluate model.pt start.cif data.files=test.xyz evaluation=full only=[accuracy,static]
    mlip evaluate 'calculator={_target_: ase.calculators.emt.EMT}' structure=Cu.cif name=EMT
    mlip evaluate 'trajectories=[{files: XDATCAR, temperature_K: 900, frame_interval_fs: 20}]' mobile=Li charge=1
    mlip evaluate compare=[runs/a/evaluation,runs/b/evaluation]

    The same command again goes on where it was cut off; the report is FOLDER/report.html.
    """
    from rich.console import Console

    from mlip import dimensions
    from mlip.evaluation.evaluate import evaluate as run
    from mlip.evaluation.evaluate import is_failed

    if cfg.compare:
        return report(cfg)
    who = dimensions.candidate(cfg, make, build)
    tree = dimensions.parts(cfg.dimensions)
    needs = {name: dimensions.missing(cfg, tree[name]) for name in dimensions.chosen(list(tree), cfg.only)}
    left_out = {name: keys for name, keys in needs.items() if keys}
    names = [name for name in needs if name not in left_out]
    if not names:
        raise ValueError("nothing can be evaluated: " + "; ".join(f"{name} needs {', '.join(keys)}" for name, keys in needs.items()))
    dimensions.write_about(cfg, who, left_out)
    sections = run(
        None, {name: dimensions.runnable(tree[name], who, make) for name in names}, cfg.folder,
        {name: dimensions.settings(tree[name], who) for name in names}, cfg.overwrite, Console(),
    )  # fmt: skip
    report(cfg)
    return int(any(map(is_failed, sections.values())))


def report(cfg: DictConfig) -> int:
    """The report of an evaluated folder again, from its JSON; or several folders side by side.

    mlip report runs/li3incl6/evaluation
    mlip report runs/li3incl6/evaluation thresholds.stability.energy_drift.size_at_most=[1e-6,1e-5]
    mlip report compare=[runs/a/evaluation,runs/b/evaluation] folder=runs/comparison
    """
    from rich.console import Console

    from mlip import dimensions
    from mlip.evaluation.compare import compare
    from mlip.evaluation.report import build as build_report
    from mlip.evaluation.report import console_table

    layout = {name: make(node) for name, node in dimensions.parts(cfg.layout, mark="title").items()}
    thresholds = OmegaConf.to_container(cfg.thresholds, resolve=True)
    if cfg.compare:
        page = compare(list(cfg.compare), cfg.folder or "runs/comparison", layout, thresholds)
    elif cfg.folder:
        Console().print(console_table(build_report(cfg.folder, layout, thresholds), str(cfg.folder)))
        page = Path(cfg.folder) / "report.html"
    else:
        raise ValueError("mlip report needs a folder that mlip evaluate wrote, or compare=[FOLDER,FOLDER]")
    print(page)
    return 0


def label(cfg: DictConfig) -> int:
    """Label structures with an engine: DFT (GPAW, VASP), any calculator of ASE, or files that come back from elsewhere.

    mlip label in.xyz out.xyz engine=gpaw engine.kpoints=[2,2,2]
    mlip label in.xyz out.xyz engine=vasp engine.command="srun vasp_std" execution=slurm execution.provider.partition=cpu
    mlip label in.xyz out.xyz engine=files engine.level=pbe_520

    Every finished label is on disk at once; the same command again goes on. Exit code 1 where labels are missing or wrong.
    """
    from rich.console import Console

    from mlip.data.structures import read
    from mlip.labelling.report import hand_over
    from mlip.labelling.run import run

    structures = read(cfg.input)
    report = run(structures, make(cfg.engine), cfg.folder, make(cfg.execution), cfg.retries)
    return hand_over(report, structures, cfg.output, Console())


def sample(cfg: DictConfig) -> int:
    """Find the structures that are worth a label, label them, train, until the barriers of ion hops no longer change.

    mlip sample start.cif engine=gpaw engine.kpoints=[2,2,2] material=halide
    mlip sample start.cif engine=chgnet mobile=Li data.files=first.xyz limits.labels=300
    mlip sample start.cif engine=files engine.level=pbe_520 mobile=Li    DFT done elsewhere: repeat the command
    mlip sample start.cif engine=chgnet mobile=Li sampler=random_md      a baseline

    FOLDER/history.html tells how far it is, FOLDER/labelled.xyz holds all labels. The same command again goes on where
    it was cut off. Exit code 1 where it ended before it converged.
    """
    from rich.console import Console

    from mlip.data.structures import read
    from mlip.labelling.engine import LabellingError
    from mlip.rounds import loop_of

    starts = read(OmegaConf.to_container(cfg)["structure"])
    try:
        result = loop_of(cfg, make, build, train).run(starts)
    except LabellingError as stop:
        raise ValueError(str(stop)) from stop
    Console().print(f"{cfg.folder}/history.html, {cfg.folder}/labelled.xyz, the model: {result['model']}", markup=False)
    return int(not result["converged"])


VERBS = {"train": train, "export": export, "md": md, "predict": predict, "evaluate": evaluate, "report": report,
         "label": label, "sample": sample, "data check": data_check}  # fmt: skip
WORDS = {  # what words without '=' mean, in their order; the last may be a list
    "train": [],
    "export": ["run"],
    "md": ["model", "structure"],
    "predict": ["model", "input", "output"],
    "evaluate": ["model", "structure"],
    "report": ["folder"],
    "label": ["input", "output"],
    "sample": ["structure..."],
    "data check": ["data.files..."],
}
