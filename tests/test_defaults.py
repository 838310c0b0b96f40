"""A default has one value: if a config and the signature of its class both give one, they agree."""

import inspect

import pytest
import yaml
from hydra.utils import get_object

from mlip import config

# a choice of a group differs from its class on purpose: that is what the choice is; a teacher is slow, so its dynamics are short
CHOICES = ("experiment", "material", "model/network", "execution", "distillation")
OTHERWISE = {  # an instance that serves another end than its class usually does
    "terms.repulsion.radius_scale": "buckingham: only against falling into a nucleus",
    "proposers.check.frames": "frames that show whether dynamics holds anything new",
    "proposers.check.kind": "their name",
    "frames.max_frames": "the search for holes needs the shortest distances, not every frame",
}


def targets(node, path=""):
    """Mappings with a `_target_` in a YAML file, with their place in it."""
    if isinstance(node, dict):
        if str(node.get("_target_")).startswith("mlip."):
            yield path, node
        for key, value in node.items():
            yield from targets(value, f"{path}.{key}".lstrip("."))


def plain(value):
    """As YAML holds it: no tuples, and None for what is empty."""
    return [plain(each) for each in value] if isinstance(value, list | tuple) and value else value or None


def files():
    for path in sorted(config.CONFIGS.rglob("*.yaml")):
        if not str(path.relative_to(config.CONFIGS)).startswith(CHOICES):
            yield path.relative_to(config.CONFIGS).as_posix()


@pytest.mark.parametrize("file", list(files()))
def test_yaml_and_signature_agree_on_every_default(file):
    differences = []
    for place, node in targets(yaml.safe_load((config.CONFIGS / file).read_text()) or {}):
        try:
            parameters = inspect.signature(get_object(node["_target_"])).parameters
        except (ImportError, ValueError):
            continue  # of a package that is not installed, or in C
        for key, value in node.items():
            default = parameters[key].default if key in parameters else inspect.Parameter.empty
            is_plain = not isinstance(value, dict) and "${" not in str(value) and value != "???"
            if default is inspect.Parameter.empty or not is_plain or isinstance(default, type):
                continue
            name = f"{place}.{key}".lstrip(".")
            if plain(value) != plain(default) and name not in OTHERWISE:
                differences.append(f"{name}: {value} in the config, {default} in {node['_target_']}")
    assert not differences
