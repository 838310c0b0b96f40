"""Imports go down only: a folder of mlip imports from its own layer or from those below it, and there are no circles."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "mlip"
LAYERS = [  # the ground first; one layer may import from itself
    {"keys", "units", "errors", "files", "archive", "signals"},
    {"settings", "number_rules", "config", "error_metrics", "threads", "compiled"},
    {"config_comments"},
    {"nn"},
    {"electrostatics"},
    {"data"},
    {"models", "holes"},
    {"deployed", "export", "aoti"},
    {"native", "blocks"},
    {"calculator", "labelling", "lammps"},
    {"replicas"},
    {"torchsim", "ipi_driver", "openmm"},
    {"training"},
    {"md"},
    {"transitions"},
    {"evaluation"},
    {"sampling"},
    {"commands"},
    {"help", "api"},
    {"cli", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def room(parts: tuple[str, ...]) -> str:
    """Folder of a module, or the module itself on the top floor."""
    return parts[0].removesuffix(".py")


def imported(tree: ast.AST, top_only: bool) -> set[str]:
    """Rooms of mlip that a file imports; top_only leaves out imports inside functions."""
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "mlip":
            found |= {alias.name for alias in node.names if (PACKAGE / alias.name).exists() or alias.name in LEVEL}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlip."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("mlip.")}
    return found


def test_imports_go_down_only():
    up = []
    for path in sorted(PACKAGE.rglob("*.py")):
        here = room(path.relative_to(PACKAGE).parts)
        if here == "__init__":
            continue
        assert here in LEVEL, f"{here} has no layer: give it one in this test and in CONTRIBUTING.md"
        for there in imported(ast.parse(path.read_text()), top_only=True):
            if LEVEL[there] > LEVEL[here]:
                up.append(f"{path.relative_to(PACKAGE)} imports {there}")
    assert not up
