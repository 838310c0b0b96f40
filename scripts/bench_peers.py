"""Benchmarks against peers: speed through ASE calculators, and force error against CPU seconds of training.

    scripts/bench_peers.py install
    scripts/bench_peers.py train mace-64 allegro mace-128
    scripts/bench_peers.py train --budget 60 600 --ours medium '{mlip} train experiment=lips model=medium
        data.files={train} data.test_files={test} data.split.test=0 trainer.max_steps=null
        trainer.max_seconds={budget} folder={folder}/run overwrite=true'
    scripts/bench_peers.py time [--model small=PATH.pt ...]
    scripts/bench_peers.py report

Peers live outside the checkout (--folder, $MLIP_PEERS, ~/.cache/mlip-peers), each in its own environment. What was
trained is kept there and not trained again unless --again says so. All codes run one thread. `report` writes
docs/benchmarks/peers.md from docs/benchmarks/peers.json.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import median

from peers import report
from peers.client import CHECKOUT, HERE, Worker, one_thread
from peers.codes import CUTOFF, INSTALL, PEERS, TORCH, Code, ours
from peers.structures import write_split, write_timing_cells
from rich.console import Console
from rich.progress import track

console = Console()


def install(args):
    for name in args.names or INSTALL:
        python = args.folder / name / "bin" / "python"
        if not python.exists():
            subprocess.run([args.peer_python, "-m", "venv", args.folder / name], check=True)
        for packages in ([TORCH], INSTALL[name]):
            console.print(f"{name}: installing {' '.join(packages)}")
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)


# ---------------------------------------------------------------- training


def run_folder(args, name: str, budget: float) -> Path:
    return args.folder / "bench" / "runs" / f"{name}-{budget:g}"


def train_peer(args, code: Code, folder: Path, files: dict, budget: float) -> dict:
    """Runs the worker's training, unless the same one ended before; its last line has its own CPU seconds."""
    settings = {"train": str(files["train"]), "cutoff": CUTOFF, "cpu_budget": budget, "model": str(folder / code.model)}
    settings |= code.settings
    noted, printed = folder / "settings.json", folder / "train.out"
    if args.again or not printed.exists() or json.loads(noted.read_text()) != settings or not last_json(printed):
        noted.write_text(json.dumps(settings, indent=1))
        command = [code.python(args.folder, args.python), HERE / code.worker, "train", noted]
        with open(printed, "w") as out, open(folder / "train.err", "w") as err:
            subprocess.run(command, check=True, stdout=out, stderr=err, env=one_thread())
    return last_json(printed)


def last_json(printed: Path) -> dict | None:
    lines = [line for line in printed.read_text().splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else None


def train_ours(python: Path, command: str, folder: Path, files: dict, budget: float) -> dict:
    """Runs our own command line, which leaves {folder}/run/model.pt.

    Its CPU seconds are all that it and its children used, start-up and export included.
    """
    mlip = shlex.join([str(python), "-c", "import sys; from mlip.cli import main; sys.exit(main())"])
    words = {word: shlex.quote(str(path)) for word, path in (files | {"folder": folder}).items()}
    words |= {"budget": f"{budget:g}", "mlip": mlip}
    command = filled = " ".join(command.split())
    for word, value in words.items():
        filled = filled.replace("{" + word + "}", value)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(folder / "train.out", "w") as out:
        subprocess.run(filled, shell=True, check=True, stdout=out, stderr=out, env=one_thread(), cwd=CHECKOUT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "command": command}


def train(args):
    """Every run ends in result.json: CPU seconds, steps, and the errors on the held-out frames."""
    files = dict(zip(("train", "test"), write_split(args.data, args.folder / "bench" / "data"), strict=True))
    if unknown := set(args.names) - set(PEERS):
        raise SystemExit(f"no peer {sorted(unknown)}: there are {list(PEERS)}")
    codes = [ours(name) for name, _ in args.ours] + [PEERS[name] for name in args.names]
    commands = dict(args.ours)
    for code in codes:
        for budget in args.budget or [code.cpu_budget]:
            folder = run_folder(args, code.name, budget)
            result = folder / "result.json"
            if result.exists() and not args.again:
                console.print(f"{folder.name}: done before ({result}); --again repeats it")
                continue
            folder.mkdir(parents=True, exist_ok=True)
            console.print(f"{folder.name}: training, log in {folder}")
            if code.name in commands:
                figures = train_ours(args.python, commands[code.name], folder, files, budget)
            else:
                figures = train_peer(args, code, folder, files, budget)
            if not (folder / code.model).exists():
                raise SystemExit(f"the training left no {folder / code.model}: see {folder / 'train.out'}")
            worker = Worker(code.python(args.folder, args.python), code.worker, folder / code.model)
            figures |= worker.ask("errors", frames=files["test"]) | {"versions": worker.versions}
            worker.close()
            figures |= {"name": code.name, "label": code.label, "budget_s": budget, "model": str(folder / code.model)}
            result.write_text(json.dumps(figures, indent=1))
            console.print(f"{folder.name}: {figures['force_rmse_meV_A']:.1f} meV/Å after {figures['cpu_s']:.0f} CPU s")
    write_report(args)


def results(args) -> list[dict]:
    files = (args.folder / "bench" / "runs").glob("*/result.json")
    return sorted((json.loads(file.read_text()) for file in files), key=lambda r: (r["name"], r["budget_s"]))


# ---------------------------------------------------------------- speed


def timed_models(args) -> list[tuple[Code, Path]]:
    """The peers' and our models of the longest training at hand; --model NAME=PATH replaces or adds one of ours."""
    trained = {result["name"]: Path(result["model"]) for result in results(args)}
    trained |= {name: Path(path) for name, path in (word.split("=", 1) for word in args.model)}
    names = args.names or list(trained)
    if missing := set(names) - set(trained):
        raise SystemExit(f"no trained model of {sorted(missing)}: run `bench_peers.py train` first, or give --model")
    return [(PEERS.get(name) or ours(name), trained[name]) for name in names]


def measure(args):
    """Round-robin: each size, each round, each code in turn, so that other load on the machine hits all alike."""
    cells = write_timing_cells(args.data, args.folder / "bench" / "data")
    models = timed_models(args)
    workers = {code.name: Worker(code.python(args.folder, args.python), code.worker, path) for code, path in models}
    blocks = {code.name: {size: [] for size in args.sizes} for code, _ in models}
    load = os.getloadavg()
    turns = [(size, turn, name) for size in args.sizes for turn in range(args.rounds) for name in workers]
    for size, turn, name in track(turns, "timing", console=console):
        block = workers[name].ask(
            "time", structure=cells[size], seconds=args.seconds, warm_up=1 if turn else 3, first_step=1000 * turn
        )
        blocks[name][size].append(block)
    speed = {
        "command": "python " + " ".join(map(shlex.quote, sys.argv)),
        "machine": report.machine() | {"load_before": load, "load_after": os.getloadavg()},
        "rounds": args.rounds,
        "seconds_per_block": args.seconds,
        "codes": {},
    }
    for code, path in models:
        speed["codes"][code.name] = {
            "label": code.label,
            "model": str(path),
            "versions": workers[code.name].versions,
            "sizes": {size: spread(blocks[code.name][size]) for size in args.sizes},
        }
        workers[code.name].close()
    (args.folder / "bench" / "speed.json").write_text(json.dumps(speed, indent=1))
    write_report(args)


def spread(blocks: list[dict]) -> dict:
    """Median over the rounds, with the extremes."""
    figures = {"steps": sum(block["steps"] for block in blocks)}
    for key in ("wall_us", "cpu_us"):
        values = [block[key] for block in blocks]
        figures[key] = {"median": median(values), "least": min(values), "most": max(values)}
    return figures


def write_report(args):
    speed = args.folder / "bench" / "speed.json"
    figures = {"speed": json.loads(speed.read_text()) if speed.exists() else None, "training": results(args)}
    report.show(figures, console)
    docs = CHECKOUT / "docs" / "benchmarks"
    docs.mkdir(parents=True, exist_ok=True)
    report.write(docs / "peers.json", json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    report.write(docs / "peers.md", report.markdown(figures))
    console.print(f"wrote {docs / 'peers.md'} and peers.json")


def main():
    cache = os.environ.get("MLIP_PEERS", Path.home() / ".cache" / "mlip-peers")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, default=Path(cache), help="environments, trained models and results")
    common.add_argument("--data", type=Path, default=CHECKOUT.parent / "shared" / "data", help="folder of the DFT sets")
    common.add_argument("--python", type=Path, default=Path(sys.executable), help="the Python that runs our models")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)

    verb = verbs.add_parser("install", parents=[common], help="make the peers' environments")
    verb.add_argument("names", nargs="*", help=f"of {list(INSTALL)}; all by default")
    verb.add_argument("--peer-python", default=sys.executable, help="the Python of their environments")
    verb.set_defaults(run=install)

    verb = verbs.add_parser("train", parents=[common], help="train on LiPS within CPU budgets, then test")
    verb.add_argument("names", nargs="*", help=f"peers, of {list(PEERS)}")
    verb.add_argument("--ours", nargs=2, action="append", default=[], metavar=("NAME", "COMMAND"))
    verb.add_argument("--budget", type=float, nargs="+", help="CPU seconds; several give several trainings")
    verb.add_argument("--again", action="store_true", help="train again what was trained before")
    verb.set_defaults(run=train)

    verb = verbs.add_parser("time", parents=[common], help="time energy + forces + stress, alternating")
    verb.add_argument("names", nargs="*", help="codes; by default all that were trained")
    verb.add_argument("--model", action="append", default=[], metavar="NAME=PATH", help="an exported model of ours")
    verb.add_argument("--sizes", type=int, nargs="+", default=[52, 208, 416, 1404], choices=[52, 208, 416, 1404])
    verb.add_argument("--rounds", type=int, default=5)
    verb.add_argument("--seconds", type=float, default=2.0, help="length of one block of steps")
    verb.set_defaults(run=measure)

    verb = verbs.add_parser("report", parents=[common], help="write docs/benchmarks/peers.md from what was measured")
    verb.set_defaults(run=write_report)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
