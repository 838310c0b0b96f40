"""mlip: interatomic potentials for solid electrolytes."""

__version__ = "0.1.0"


def load_calculator(*args, **kwargs):
    """ASE calculator of an exported model; see `mlip.calculator.load_calculator`."""
    # imported late: `import mlip` stays light for those who only want the formulas
    from mlip.calculator import load_calculator as load

    return load(*args, **kwargs)
