"""Executed pages: the `{code-cell}` blocks of a page run in order, and what they print and draw stands below them."""

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*(.*?)^```$", re.DOTALL | re.MULTILINE)


def cells(page: str) -> list[str]:
    """Code of every cell of a page."""
    return CELL.findall(page)


class Session:
    """Names that cells share, and the folder that they run in, where `datasets` is that of the checkout."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        (self.folder / "datasets").symlink_to(Path(__file__).resolve().parents[2] / "datasets")
        self.names: dict = {"__name__": "__main__"}

    def run(self, code: str) -> tuple[str, list]:
        """What a cell prints, and the matplotlib figures that it leaves open."""
        from matplotlib import pyplot

        printed, before = io.StringIO(), Path.cwd()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "<cell>", "exec"), self.names)
        finally:
            os.chdir(before)
        figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
        pyplot.close("all")
        return printed.getvalue(), figures


class CodeCell(SphinxDirective):
    """A block of Python that is shown and run."""

    has_content = True
    optional_arguments = 1
    option_spec = {"hide-output": directives.flag}  # noqa: RUF012  docutils reads this name

    def run(self) -> list[nodes.Node]:
        code = "\n".join(self.content)
        sessions = self.env.temp_data.setdefault("cells", {})
        if self.env.docname not in sessions:
            sessions[self.env.docname] = Session(tempfile.mkdtemp(prefix="mlip-docs-"))
        printed, figures = sessions[self.env.docname].run(code)
        out: list[nodes.Node] = [nodes.literal_block(code, code, language="python")]
        if printed.strip() and "hide-output" not in self.options:
            out.append(nodes.literal_block(printed, printed.rstrip("\n"), language="text", classes=["cell-output"]))
        for figure in figures:
            out.append(nodes.image(uri=self.saved(figure), alt="figure drawn by the code above"))
        return out

    def saved(self, figure) -> str:
        """The figure as a file of the site; its path as an image of a page."""
        folder = Path(self.env.srcdir) / "_generated" / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        number = self.env.new_serialno("figure")
        path = folder / f"{self.env.docname.replace('/', '_')}_{number}.svg"
        figure.savefig(path)
        return "/" + path.relative_to(self.env.srcdir).as_posix()


def setup(app) -> dict:
    """Sphinx calls this."""
    app.add_directive("code-cell", CodeCell)
    return {"parallel_read_safe": False}
