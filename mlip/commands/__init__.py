"""The verbs of the command, one file each: mlip.commands.VERB.VERB(config) runs it, configs/VERB.yaml is its config and help."""

from importlib import import_module

VERBS = {  # words without '=' stand for these keys, in their order; the last may be a list
    "train": [],
    "export": ["run"],
    "md": ["model", "structure"],
    "predict": ["model", "input", "output"],
    "evaluate": ["model", "structure"],
    "report": ["folder"],
    "label": ["input", "output"],
    "distill": ["structure..."],
    "sample": ["structure..."],
    "data check": ["data.files..."],
    "lammps build": [],
    "lammps input": ["model", "structure"],
}


def module(verb: str):
    """The module of a verb, imported when it is run: help and typing errors need no torch."""
    return import_module(f"mlip.commands.{verb.replace(' ', '_')}")


def run(verb: str, cfg) -> int:
    """Run a verb on its composed config; returns the exit code."""
    return getattr(module(verb), verb.replace(" ", "_"))(cfg) or 0
