"""mlip: interatomic potentials for solid electrolytes.

potential = mlip.train("my.xyz", model={"network": "small"}, trainer={"max_steps": 2000})
atoms.calc = mlip.load_calculator(potential.folder / "model.pt")
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Run", "evaluate", "load_calculator", "read", "sample", "train"]

if TYPE_CHECKING:
    from mlip.api import Run, evaluate, load_calculator, read, sample, train


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mlip' has no attribute {name!r}")
    from mlip import api  # imported late: `import mlip` stays light for those who only want the formulas

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
