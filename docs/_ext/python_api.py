"""Reference of the Python API: a page for every package, and docstrings as they are written."""

import pkgutil
import re
from pathlib import Path

import mlip

PAGES = "_generated/api"


def packages() -> dict[str, list[str]]:
    """Modules of every package of mlip by its name; `mlip` itself holds those that belong to none."""
    found: dict[str, list[str]] = {"mlip": []}
    for module in pkgutil.walk_packages(mlip.__path__, "mlip."):
        package = ".".join(module.name.split(".")[:2])
        if module.ispkg and module.name == package:
            found[package] = []
        elif not module.ispkg:
            found[package if package in found else "mlip"].append(module.name)
    return {package: sorted(modules) for package, modules in sorted(found.items())}


def page(package: str, modules: list[str]) -> str:
    """One page: the docstring of the package, then every module."""
    lines = [f"# {package}", "", "```{eval-rst}", f".. automodule:: {package}", "   :no-members:", "```", ""]
    for module in modules:
        lines += [
            f"## {module.removeprefix('mlip.')}",
            "",
            "```{eval-rst}",
            f".. automodule:: {module}",
            "   :members:",
            "```",
            "",
        ]
    return "\n".join(lines)


def write_pages(folder: Path) -> None:
    """All pages; unchanged ones are left alone."""
    pages = {f"{package}.md": page(package, modules) for package, modules in packages().items()}
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.md"):
        if stale.name not in pages:
            stale.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def as_written(app, what, name, thing, options, lines: list[str]) -> None:
    """First paragraph as text, the rest as a literal block: our docstrings are aligned by hand, not reStructuredText."""
    if not any(line.strip() for line in lines):
        return
    text = [line.rstrip() for line in lines]
    end = next((k for k, line in enumerate(text) if not line), len(text))
    first = [re.sub(r"([\\*`|_])", r"\\\1", line.strip()) for line in text[:end]]
    rest = text[end:]
    while rest and not rest[0]:
        rest = rest[1:]
    lines[:] = [" ".join(first), ""]
    if rest:
        lines += [".. code-block:: text", "", *("   " + line for line in rest), ""]


def setup(app) -> dict:
    """Sphinx calls this."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / PAGES))
    app.connect("autodoc-process-docstring", as_written)
    return {"parallel_read_safe": True}
