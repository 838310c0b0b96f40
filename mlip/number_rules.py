"""Rules for every number in the configs: whole or not, its bounds, null or not. One table, looked at before any work.

A key is found by its last names: `electrostatics.width` before `width`. What a key without a rule may hold, its class says.
"""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from mlip.errors import InputError

MANY = 10**9  # more steps, frames or bytes than any run has; infinity is none of them


@dataclass(frozen=True)
class Rule:
    """What a number may be.

    low, high   bounds, themselves valid unless `open_low`, `open_high`
    whole       an integer is due
    form        "one" | "list" | "table" (of symbols or names), which may hold lists
    length      of a list; 0: any but none
    nullable    null is valid
    word        valid instead of a number
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    whole: bool = False
    form: str = "one"
    length: int = 0
    nullable: bool = False
    word: str | None = None

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        low = "" if self.low == -math.inf else f" {'above' if self.open_low else 'of at least'} {self.low:g}"
        high = "" if self.high in (math.inf, MANY) else f" {'below' if self.open_high else 'of at most'} {self.high:g}"
        lists = f"a list of {self.length or ''} numbers, each ".replace("  ", " ") if self.form == "list" else ""
        table = "a table {name: number}, each " if self.form == "table" else ""
        other = (f" or {self.word}" if self.word else "") + (" or null" if self.nullable else "")
        return f"{lists}{table}{kind}{low}{' and' if low and high else ''}{high}{other}"

    def holds(self, value: Any) -> bool:
        """Whether one number keeps the rule."""
        if value == self.word and self.word is not None:
            return True
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and (not self.whole or (float(value).is_integer() and isinstance(value, int)))

    def nearest(self, value: Any) -> float | int | None:
        """The nearest valid number; None if there is none, next to an open bound or to what is no number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return None
        inside = min(max(value, self.low), self.high)
        inside = round(inside) if self.whole and math.isfinite(inside) else inside
        return inside if self.holds(inside) else None


WHOLE = Rule(1, MANY, whole=True)
WHOLE_OR_0 = Rule(0, MANY, whole=True)
POSITIVE = Rule(0, open_low=True)
NOT_NEGATIVE = Rule(0)
FRACTION = Rule(0, 1)
BELOW_1 = Rule(0, 1, open_high=True)
SIGNED = Rule()
CHARGE = Rule(-20, 20)
PAIR = Rule(form="list", length=2)


def optional(rule: Rule) -> Rule:
    """The same, or null."""
    return replace(rule, nullable=True)


def listed(rule: Rule, length: int = 0) -> Rule:
    """A list of such numbers."""
    return replace(rule, form="list", length=length)


def table(rule: Rule) -> Rule:
    """A table of such numbers by element or name."""
    return replace(rule, form="table", nullable=True)


GROUPED: list[tuple[Rule, str]] = [
    (WHOLE, ("steps frame_every thermo_every state_every guard.every log_every validate_every checkpoint_every keep_best "
            "accumulate batch_size n_channels n_layers n_basis n_species n_hidden n_frames n_draws n_initial per_round "
            "members max_hops n_images polarisation.every proposers.md.frames proposers.check.frames distillation.frames "
            "distorted.structures neighbours rounds n_volumes n_replicas "
            "max_iterations disordered.n atoms.times cores_per_worker cpus_per_node workers_per_node init_blocks "
            "init_cpu max_blocks max_cpu nodes_per_block")),
    (replace(WHOLE, word="auto"), "trainer.devices"),
    (optional(WHOLE), "max_steps max_epochs patience edges_per_batch limits.labels max_frames"),
    (Rule(2, MANY, whole=True), "holes.n_steps"),
    (WHOLE_OR_0, "seed mesh_above retries n_relabelled num_workers rattles saddles.strains n_hops"),
    (Rule(0, 8, whole=True), "l_max"),
    (Rule(0, 10**15, whole=True), "data.memory"),
    (listed(Rule(1, 1000, whole=True), 3), "repeat"),
    (listed(Rule(1, 1000, whole=True)), "barrier_repeats"),
    (POSITIVE, ("lr timestep_fs damping_fs pressure_damping_fs frame_interval_fs production_ps time_ps "
               "checkpoint_minutes temperature_K extrapolate_to_K hardness hardness_floor cutoff_error_eV_A "
               "polarizability width_floor radius_scale stiffness fmax max_length_A hop_length_A max_barrier_eV "
               "barrier_sigma_eV barrier_change_eV saddle_error_eV scale engine.cutoff relative_interval "
               "proposers.md.max_force_sigma_eV_A resolution_per_cm")),
    (optional(POSITIVE), ("max_seconds longest_ps initial_temperature_K kpoint_density gradient_clip max_temperature_K max_force_eV_A "
                          "max_force_sigma_eV_A")),
    (listed(POSITIVE), "temperatures_K usual_temperatures_K factors distillation.volumes"),
    (table(POSITIVE), "masses convergence"),
    (Rule(0, 20, open_low=True), "cutoff"),
    (Rule(0, 10), "skin"),
    (Rule(0, 10, open_low=True), "electrostatics.width"),
    (Rule(0, 0.1, open_low=True), "electrostatics.tolerance"),
    (Rule(0, 100, open_low=True), "phonons.width defects.width"),
    (NOT_NEGATIVE, ("weight_decay l2_sp skip_ps npt_ps equilibration_ps residence_ps min_uncertainty rmse_factor "
                   "min_candidates_per_label min_descriptor_distance scheduler.threshold smearing effective_hops")),
    (optional(NOT_NEGATIVE), "max_fall_eV min_distance_A"),
    (Rule(1), "upper_factor"),
    (optional(Rule(1)), "electrostatics.dielectric max_volume_change"),
    (table(NOT_NEGATIVE), "loss.weights element_weights"),
    (FRACTION, "second_stage uncertain_fraction final"),
    (BELOW_1, "ema_decay momentum warmup"),
    (Rule(0, 1, True, True), "decay validation"),
    (listed(BELOW_1, 2), "betas"),
    (table(FRACTION), "quotas"),
    (listed(Rule(-1, 1)), "progress"),
    (listed(Rule(0, 0.2, open_low=True)), "elastic.strains"),
    (SIGNED, "pressure_GPa order around"),
    (optional(CHARGE), "charge total_charge"),
    (optional(listed(SIGNED, 3)), "field_V_per_A"),
    (table(CHARGE), "formal_charges disordered.charges"),
    (table(SIGNED), "shells"),
    (PAIR, "at_most at_least size_at_most"),
]  # fmt: skip
RULES: dict[str, Rule | None] = {name: rule for rule, names in GROUPED for name in names.split()}
RULES["split.validation"] = RULES["split.test"] = None  # a fraction, a number of frames or config_types: `check_split`

SWITCHES = {
    "overwrite",
    "learn_formal_charges",
    "polar",
    "remove_net_force",
    "isotropic",
    "dipoles",
    "amsgrad",
    "warm_start",
    "progress_bar",
}  # true or false


def rule_of(key: str) -> Rule | None:
    """The rule of a dotted key, by its last names."""
    names = key.split(".")
    return next((RULES[tail] for start in range(len(names)) if (tail := ".".join(names[start:])) in RULES), None)


WORDS = {  # keys that take one of a few words; null if the config has it
    "dtype": ("float32", "float64"), "format": ("torchscript", "aoti"), "split.method": ("block", "random"),
    "uncertainty": ("last_layer",), "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
}  # fmt: skip


def check_numbers(cfg: DictConfig, shipped: Callable[[], DictConfig]) -> None:
    """Raise InputError if a number breaks its rule, naming key, value, rule and the nearest valid value.

    shipped  composes the config as it comes, for the value to return to
    """
    # where a value was written before where it is taken over
    for key, value, words, valid in (one for taken_over in (False, True) for one in broken(cfg, taken_over)):
        nearest = f"{valid:.10g}" if isinstance(valid, int | float) else valid
        remedy = f"the nearest is {nearest}" if valid is not None else f"as shipped: {shown(shipped(), key)}"
        raise InputError(f"{key}={value}: must be {words}; {remedy}")
    split = OmegaConf.select(cfg, "data.split")
    if isinstance(split, DictConfig):
        check_split(split)
    quotas = OmegaConf.select(cfg, "sampler.quotas")
    if isinstance(quotas, DictConfig) and not 0 < (total := sum(quotas.values())) <= 1 + 1e-9:
        raise InputError(f"sampler.quotas add up to {total:g}: shares of a round, more than 0 and at most 1 together")


def check_split(split: DictConfig) -> None:
    """Raise InputError for parts of a split that are no fraction or number of frames, or that leave no frame to train on."""
    parts = {name: split[name] for name in ("validation", "test") if name in split}
    for name, value in parts.items():
        if isinstance(value, ListConfig) or value is None:
            continue  # config_types
        if not (NOT_NEGATIVE.holds(value) and (value < 1 or isinstance(value, int))):
            raise InputError(
                f"data.split.{name}={value}: must be a fraction of at least 0 and below 1, a whole number of frames, or a list of "
                "config_types"
            )
    fractions = [value for value in parts.values() if isinstance(value, float)]
    if len(fractions) == 2 and sum(fractions) >= 1:
        raise InputError(
            f"data.split.validation={fractions[0]:g} and data.split.test={fractions[1]:g} leave nothing to train on: together below 1"
        )


def shown(cfg: DictConfig, key: str) -> Any:
    """The value of a key, as a command line would have it; null if there is none."""
    value = OmegaConf.select(cfg, key, throw_on_missing=False)
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value)
    return (
        {None: "null", True: "true", False: "false"}.get(value, value)
        if value is None or isinstance(value, bool)
        else value
    )


def broken(node: DictConfig, taken_over: bool, prefix: str = "") -> Iterator[tuple[str, Any, str, Any]]:
    """Key, value, rule and nearest valid value of every number that breaks its rule.

    taken_over  look at what is interpolated from other keys only, or not at all
    """
    for name in map(str, node):
        key, child = f"{prefix}{name}", node._get_node(name)
        rule = rule_of(key)
        if child._is_interpolation() != taken_over and not isinstance(child, DictConfig | ListConfig):
            continue
        if isinstance(child, DictConfig | ListConfig) and not child._is_interpolation() and not child._is_none():
            if rule is not None and not (isinstance(child, DictConfig) and "_target_" in child):
                yield from of_rule(key, child, rule) if not taken_over else ()
            elif isinstance(child, DictConfig):
                yield from broken(child, taken_over, f"{key}.")
            else:
                for place, one in enumerate(child._content):
                    if isinstance(one, DictConfig) and not one._is_interpolation():
                        yield from broken(one, taken_over, f"{key}.{place}.")
        elif rule is not None:
            yield from of_rule(key, node[name], rule)
        elif words := WORDS.get(name) or WORDS.get(".".join(key.split(".")[-2:])):
            if node[name] is not None and node[name] not in words:
                close = difflib.get_close_matches(str(node[name]), words, n=1)
                yield key, node[name], " or ".join(words), close[0] if close else None
        elif name in SWITCHES and not isinstance(node[name], bool):
            yield key, node[name], "true or false", None


def of_rule(key: str, value: Any, rule: Rule) -> Iterator[tuple[str, Any, str, Any]]:
    """The same of one key that has a rule."""
    entry = replace(rule, form="entry", length=0, nullable=False)
    if value is None:
        if not rule.nullable:
            yield key, "null", str(rule), None
    elif isinstance(value, Mapping):
        if rule.form != "table":
            yield key, value, str(rule), None
        for name in value if rule.form == "table" else ():
            yield from of_rule(f"{key}.{name}", value[name], entry)
    elif isinstance(value, list | ListConfig):
        if rule.form == "one" or not len(value) or (rule.length and len(value) != rule.length):
            yield key, value, str(rule), None
        for place in range(len(value)):
            if isinstance(value, list) or not value._get_node(place)._is_interpolation():  # else looked at there
                yield from of_rule(f"{key}.{place}", value[place], entry)
    elif rule.form in ("list", "table") or not rule.holds(value):
        yield key, value, str(rule), rule.nearest(value) if rule.form in ("one", "entry") else None
