"""The command `mlip VERB key=value ...`: configs in, one folder with everything out."""

import argparse
import errno
import io
import itertools
import os
import re
import signal
import sys
import threading
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlip import commands
from mlip.commands import VERBS
from mlip.config import CONFIGS, check, compose, keys_of, nearest
from mlip.errors import InputError, MissingFileError, MlipError
from mlip.help import group_help, overview, verb_help
from mlip.signals import Stopped, stoppable

OURS = (
    "mlip: this is a defect of mlip, not of your input. Please send the traceback below, the command and the config "
    "(folder/config.yaml) to the issue tracker"
)
CONTINUED = ("train", "sample", "distill", "md", "label", "evaluate")  # verbs that keep what is done
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk, quota, ulimit -f
NOT_SHIPPED = ". This data set is not ours to ship: put shared/ beside the checkout, or its path into MLIP_SHARED"


def main(arguments: list[str] | None = None) -> int:
    """Entry point.

    Returns 0; 1 if `mlip data check` found errors, or a sampling ended before it converged; 2 for what the user can
    mend; 128 + the number of the signal that stopped it (130, 143).
    """
    parser = argparse.ArgumentParser(
        prog="mlip", add_help=False, usage="mlip VERB [key=value ...] [-h] [-m] [--config-dir DIR]"
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("-h", "--help", nargs="?", const="", metavar="GROUP")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", type=Path)
    asked = parser.parse_intermixed_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Å in an ASCII locale
    try:
        with stoppable():
            code = dispatch(asked.words, asked.help, asked.multirun, asked.config_dir)
            sys.stdout.flush()
            return code
    except Stopped as stop:
        goes_on = asked.words[:1] and asked.words[0] in CONTINUED
        print(f"mlip: stopped by {stop}{'; repeat the command to go on' if goes_on else ''}", file=sys.stderr)
        if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
            sys.stderr.flush()
            os._exit(stop.exit_code)  # Python would wait for the label in hand, which may take hours
        return stop.exit_code
    except (BrokenPipeError, SystemExit) as error:
        # Rich turns a closed pipe into SystemExit
        if not isinstance(error if isinstance(error, OSError) else error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more
        if asked.help is None and asked.words[:1] and asked.words[0] in CONTINUED:
            print("mlip: what read the output has ended (closed pipe); repeat the command to go on", file=sys.stderr)
        return 128 + signal.SIGPIPE
    except (MlipError, OSError, OmegaConfBaseException, HydraException) as error:
        if os.environ.get("MLIP_TRACEBACK") == "1":
            raise
        # errors of a class that a config names arrive wrapped
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        hint = NOT_SHIPPED if isinstance(cause, FileNotFoundError) and "shared/data/" in str(cause) else ""
        if isinstance(cause, OSError) and cause.errno in FULL and not isinstance(cause, MlipError):
            hint = ". What is finished is safe: make room and repeat the command"
        print(f"mlip: {cause}{hint}", file=sys.stderr)
        return 2
    except Exception:  # a defect of ours, or of a package below: the traceback says where
        print(OURS, file=sys.stderr)
        raise


def dispatch(words: list[str], group: str | None, multirun: bool, config_dir: Path | None) -> int:
    """Finds the verb, composes its config (one per point of a sweep with -m) and runs it."""
    if not words and group in VERBS:  # mlip --help train
        words, group = [group], ""
    verb = words[0] if words else ""
    two_words = [name for name in VERBS if name.split()[0] == verb and " " in name]
    if two_words and (" ".join(words[:2]) in two_words or group is not None):
        verb = " ".join(words[:2]) if " ".join(words[:2]) in two_words else two_words[0]
        words = words[1:]
    if verb not in VERBS and (group is not None or not verb):
        print(overview())
        return 0
    if verb not in VERBS:
        raise InputError(f"there is no verb {verb!r}: {nearest(verb, list(VERBS))}")
    if config_dir is not None and not config_dir.is_dir():
        raise MissingFileError(f"--config-dir needs a folder with configs of yours, got {config_dir}")
    config_dirs = [CONFIGS] if config_dir is None else [config_dir.resolve(), CONFIGS]
    if group is not None:
        print(group_help(verb, group) if group else verb_help(verb, config_dirs))
        return 0
    is_key = {word: is_override(word, verb, config_dirs) for word in words[1:]}
    overrides = [quoted(re.sub(r"^\+experiment=", "experiment=", word), multirun) for word in words[1:] if is_key[word]]
    check_once(overrides)
    fixed = assign(verb, [word for word in words[1:] if not is_key[word]])
    codes, configs = [], []
    for job, name in sweep(overrides) if multirun else [(overrides, "")]:
        if verb not in (
            "train",
            "sample",
            "distill",
        ):  # there `model` is a file; Hydra would look for it in the group configs/model
            fixed |= dict(word.split("=", 1) for word in job if word.startswith("model="))
            job = [word for word in job if not word.startswith("model=")]
        cfg = compose(verb, job, config_dirs)
        OmegaConf.update(cfg, "folder", f"{cfg.folder}/{name}") if name else None
        for key, value in fixed.items():
            OmegaConf.update(cfg, key, value)  # as it is: a file's name may hold what Hydra's grammar would not take
        check(verb, cfg)
        configs.append(cfg)
        if name and verb == "train" and commands.module("train").is_done(cfg):
            print(f"{cfg.folder}: finished before")
            continue
        codes.append(commands.run(verb, cfg))
    if multirun and verb == "train" and configs[0].hold_out:
        commands.module("train").rank(configs)
    return max(codes, default=0)


def is_override(word: str, verb: str, config_dirs: list[Path]) -> bool:
    """Whether a word is key=value, not a file whose name has a "=", as folders of a sweep have."""
    if "=" not in word:
        return word[:1] == "~"
    key = word.split("=", 1)[0].lstrip("+~")
    return not Path(word).exists() or key in keys_of(verb, config_dirs)


def quoted(word: str, multirun: bool) -> str:
    """The override with quotes around a value that Hydra's grammar would not take: a file's name with spaces, "=", "(" ..."""
    key, _, value = word.partition("=")
    try:
        (parsed,) = OverridesParser.create().parse_overrides([word])
        if multirun or not parsed.is_sweep_override():
            return word
        if not Path(value).exists():
            raise InputError(
                f"{word} gives several values: a list is {key}=[{value}], and a run for each of them needs -m"
            )
    except HydraException as error:
        if value[:1] in ("[", "{", "'", '"'):
            raise InputError(
                f"{word!r} cannot be read: names with spaces, '=', '(' or ':' in a list or table need quotes of their own, "
                f"{key}='[\"my file.xyz\",b.xyz]'"
            ) from error
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def check_once(overrides: list[str]) -> None:
    """Raise InputError for a key that is given two values: which one would hold is a matter of order."""
    keys = [word.split("=", 1)[0].lstrip("+~") for word in overrides if "=" in word]
    for key in dict.fromkeys(key for key in keys if keys.count(key) > 1):
        repeated = " ".join(word for word in overrides if word.split("=", 1)[0].lstrip("+~") == key)
        raise InputError(f"{key} has two values, {repeated}: keep one")


def assign(verb: str, words: list[str]) -> dict:
    """The keys that words without '=' stand for, in their order."""
    names = VERBS[verb]
    if names and names[-1].endswith("..."):
        return {names[0].removesuffix("..."): words} if words else {}
    if len(words) > len(names):
        takes = f"takes {' '.join(name.upper() for name in names)}" if names else "takes key=value"
        raise InputError(f"mlip {verb} {takes}, got {words[len(names)]!r}")
    return dict(zip(names, words, strict=False))


def sweep(overrides: list[str]) -> list[tuple[list[str], str]]:
    """Every combination of `key=a,b` as (overrides, name of its folder)."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    choices = [
        [f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()] if one.is_sweep_override()
        else [one.input_line] for one in parsed
    ]  # fmt: skip
    jobs = [list(job) for job in itertools.product(*choices)]
    # model/head=qeq is a folder head=qeq
    return [
        (job, ",".join(word[word.rfind("/", 0, word.find("=")) + 1 :] for word in job if word.split("=")[0] in swept))
        for job in jobs
    ]
