"""Every number of every config has a rule, and no key accepts nan, inf, -1 or a word if a number of its kind is due."""

import math

import pytest
from corpus import answer, one_line
from omegaconf import DictConfig, ListConfig, OmegaConf

import mlip
from mlip.commands import VERBS
from mlip.config import CONFIGS, check, compose, missing_keys, options
from mlip.errors import InputError
from mlip.number_rules import SWITCHES, check_numbers

GROUPS = {
    "train": ("model", "loss", "optimizer", "scheduler", "material", "experiment"), "md": ("ensemble",),
    "label": ("engine", "execution"), "sample": ("sampler",),
}  # fmt: skip
NEGATIVE = {  # keys that may be negative: charges, pressures, places on a path, bounds of a verdict
    "charge", "pressure_GPa", "order", "progress", "formal_charges", "shells", "at_most", "at_least", "size_at_most",
    "around",
}  # fmt: skip
NULL = {
    "charge",
    "gradient_clip",
    "max_fall_eV",
    "max_force_eV_A",
    "max_frames",
    "max_seconds",
    "max_steps",
    "max_temperature_K",
    "max_volume_change",
    "min_distance_A",
    "patience",
}  # keys for which null means something
ANOTHER_PROGRAMS = "input_set"  # pymatgen's, which looks at it


def composed(verb: str, *overrides: str) -> DictConfig:
    """The config of a verb; what has no value yet gets a name."""
    cfg = compose(verb, list(overrides), [CONFIGS])
    for key in missing_keys(cfg):
        OmegaConf.update(cfg, key, "x")
    return cfg


def choices() -> list[tuple[str, list[str]]]:
    """Every verb as it comes, and with each option of its groups."""
    return [(verb, []) for verb in VERBS] + [
        (verb, [f"{group}={option}"]) for verb, groups in GROUPS.items() for group in groups for option in options(group, [CONFIGS])
    ]  # fmt: skip


def written(node: DictConfig | ListConfig, prefix: str = "") -> dict[str, object]:
    """Dotted key: value of what is written in a config, not taken over from another key."""
    found: dict[str, object] = {}
    for name in range(len(node)) if isinstance(node, ListConfig) else map(str, node):
        child = node._get_node(name)
        if isinstance(child, DictConfig | ListConfig) and not child._is_interpolation() and not child._is_none():
            found |= written(child, f"{prefix}{name}.")
        elif not child._is_interpolation():
            found[f"{prefix}{name}"] = child._value()
    return found


def is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


PLAIN = {verb: written(composed(verb)) for verb in VERBS}
NUMBERS = sorted({
    (verb, key, value) for verb in VERBS for key, value in PLAIN[verb].items()
    if (is_number(value) and not key.startswith("properties.")) or (verb == "evaluate" and is_number(value))
}, key=str)  # fmt: skip


def may_be(key: str, bad) -> bool:
    """Whether a key is one of the few with a meaning for it."""
    names = key.split(".")
    return (bad == -1 and bool(NEGATIVE & set(names))) or (bad is None and (names[-1] in NULL or "split" in names))


def refuses(verb: str, cfg: DictConfig, key: str, value) -> bool:
    """Whether the config with this value is refused, by its name."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    name = int(name) if isinstance(node, ListConfig) else name
    before = node._get_node(name)._value()
    try:
        node[name] = value
        check_numbers(cfg, lambda: cfg)
    except InputError as error:
        # 1.25 of quotas together, 1.0 left to train on: the whole is named
        return key in str(error) or parent in str(error)
    finally:
        node[name] = before
    return False


def test_what_is_shipped_keeps_the_rules():
    for verb, words in choices():
        check(verb, composed(verb, *words))


@pytest.mark.parametrize("verb", VERBS)
def test_no_number_may_be_another(verb):
    cfg = composed(verb)
    passed = [
        f"{key}={bad!r}"
        for one, key, value in NUMBERS if one == verb
        for bad in (math.nan, math.inf, -math.inf, "hot", "", True, None, {"a": 1}, -1)
        if not may_be(key, bad) and not refuses(verb, cfg, key, bad)
    ]  # fmt: skip
    assert not passed, passed


@pytest.mark.parametrize(("verb", "words"), [each for each in choices() if each[1]], ids=str)
def test_no_number_of_an_option_may_be_another(verb, words):
    cfg, plain = composed(verb, *words), PLAIN[verb]
    own = {
        key: value for key, value in written(cfg).items()
        if is_number(value) and plain.get(key) != value and ANOTHER_PROGRAMS not in key
    }  # fmt: skip
    passed = [
        f"{key}={bad!r}" for key in own for bad in (math.nan, "hot", None)
        if not may_be(key, bad) and not refuses(verb, cfg, key, bad)
    ]  # fmt: skip
    assert not passed, passed


@pytest.mark.parametrize("verb", VERBS)
def test_a_whole_number_is_due_for_one_and_a_switch_for_a_switch(verb):
    cfg = composed(verb)
    counts = [
        key for one, key, value in NUMBERS if one == verb and isinstance(value, int) and refuses(verb, cfg, key, 10**12)
    ]
    for key in counts:
        if "split" not in key:
            assert refuses(verb, cfg, key, 1.5) or not refuses(verb, cfg, key, 0.5), key  # 500 eV may be 500.5 eV
    for key, value in written(cfg).items():
        if isinstance(value, bool) and not key.endswith("_partial_") and "execution" not in key:
            assert key.split(".")[-1] in SWITCHES, key
            assert refuses(verb, cfg, key, "no"), key


SAID = {  # command: what it says
    ("train", "data.files=x", "trainer.max_steps=nan"): "trainer.max_steps=nan: must be a whole number of at least 1 or null; as shipped: 10000",
    ("train", "data.files=x", "trainer.max_steps=inf"): "trainer.max_steps=inf: must be a whole number of at least 1 or null; the nearest is 1000000000",
    ("train", "data.files=x", "trainer.gradient_clip=-1"): "trainer.gradient_clip=-1: must be a finite number above 0 or null; as shipped: 10.0",
    ("train", "data.files=x", "optimizer.weight_decay=-1"): "optimizer.weight_decay=-1: must be a finite number of at least 0; the nearest is 0",
    ("train", "data.files=x", "optimizer.momentum=2"): "optimizer.momentum=2: must be a finite number of at least 0 and below 1; as shipped: 0.95",
    ("train", "data.files=x", "loss.second_stage=5"): "loss.second_stage=5: must be a finite number of at least 0 and of at most 1; the nearest is 1",
    ("train", "data.files=x", "data.split.validation=0.6", "data.split.test=0.6"): "leave nothing to train on",
    ("train", "data.files=x", "data.split.validation=-1"): "a fraction of at least 0 and below 1, a whole number of frames",
    ("train", "data.files=x", "data.split.validation=2.5"): "a fraction of at least 0 and below 1, a whole number of frames",
    ("train", "data.files=x", "seed=1", "seed=2"): "seed has two values, seed=1 seed=2: keep one",
    ("train", "data.files=x", "trainer.max_steps=ten"): "trainer.max_steps=ten: must be a whole number",
    ("train", "data.files=x", "data.batch_size=4.5"): "data.batch_size=4.5: must be a whole number of at least 1; the nearest is 4",
    ("train", "data.files=x", "trainer.devices=0"): "trainer.devices=0: must be a whole number of at least 1 or auto; the nearest is 1",
    ("train", "data.files=x", "overwrite=no"): "overwrite=no: must be true or false; as shipped: false",
    ("train", "data.files=x", "material=oxide", "material.cutoff=50"): "material.cutoff=50: must be a finite number above 0 and of at most 20; the nearest is 20",
    ("train", "data.files=x", "optimizer.betas=[0.9]"): "optimizer.betas=[0.9]: must be a list of 2 numbers",
    ("train", "data.files=x", "loss.weights.forces=-1"): "loss.weights.forces=-1: must be a finite number of at least 0; the nearest is 0",
    ("train", "data.files=x", "folder="): "folder= is empty: name a folder",
    ("md", "m.pt", "s.xyz", "temperature_K=hot"): "temperature_K=hot: must be a finite number above 0; as shipped: 300",
    ("md", "m.pt", "s.xyz", "frame_every=1.5"): "frame_every=1.5: must be a whole number of at least 1; the nearest is 2",
    ("md", "m.pt", "s.xyz", "repeat=[1.5,1,1]"): "repeat.0=1.5: must be a whole number",
    ("md", "m.pt", "s.xyz", "repeat=2"): "repeat=2: must be a list of 3 numbers",
    ("md", "m.pt", "s.xyz", "skin=1000"): "skin=1000: must be a finite number of at least 0 and of at most 10; the nearest is 10",
    ("md", "m.pt", "s.xyz", "steps=0"): "steps=0: must be a whole number of at least 1; the nearest is 1",
    ("predict", "m.pt", "in.xyz", "out.xyz", "batch_size=-3"): "batch_size=-3: must be a whole number of at least 1; the nearest is 1",
    ("sample", "s.xyz", "engine=emt", "sampler.quotas.check=0.5"): "sampler.quotas add up to 1.25",
    ("sample", "s.xyz", "engine=emt", "limits.labels=0"): "limits.labels=0: must be a whole number of at least 1 or null; the nearest is 1",
    ("evaluate", "m.pt", "s.xyz", "temperatures_K=[]"): "temperatures_K=[]: must be a list of numbers, each a finite number above 0",
    ("evaluate", "m.pt", "s.xyz", "temperatures_K=[300,-300]"): "temperatures_K.1=-300: must be a finite number above 0",
}  # fmt: skip


@pytest.mark.parametrize("words", SAID, ids=" ".join)
def test_the_complaint_names_key_value_rule_and_remedy(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = answer(capsys, *words)
    assert code == 2 and SAID[words] in one_line(said) and len(said.splitlines()) == 1, said
    assert not list(tmp_path.iterdir()), "something was written before the numbers were looked at"


def test_the_python_functions_look_at_the_same_numbers():
    with pytest.raises(InputError, match=r"trainer.max_steps=-1: must be a whole number of at least 1"):
        mlip.train("x.xyz", trainer={"max_steps": -1})
    with pytest.raises(InputError, match=r"temperatures_K.0=nan"):
        mlip.evaluate("m.pt", "s.xyz", temperatures_K=[math.nan])
