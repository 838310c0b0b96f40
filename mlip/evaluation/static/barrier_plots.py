"""Energies along migration paths."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from mlip.evaluation.plots import BLUE, GREEN, ORANGE
from mlip.evaluation.static.canvas import canvas

LINES = (  # entry of a hop, its energies, label, how it is drawn
    ("own", "energies_eV", "B: own path", {"marker": "o", "color": BLUE, "linestyle": "-"}),
    ("fixed", "energies_eV", "A: on DFT images", {"marker": "s", "color": GREEN, "linestyle": "--", "markerfacecolor": "none"}),
    ("fixed", "dft_eV", "DFT", {"marker": "D", "color": ORANGE, "linestyle": ":"}),
    ("labelled", "energies_eV", "C: DFT on own saddle", {"marker": "*", "color": ORANGE, "linestyle": "", "markersize": 11}),
)


def draw(data: Mapping) -> dict[str, Figure]:
    """barrier_N of hop N: energies along the path, of all three numbers that are there."""
    figures = {}
    for number, (hop, curves) in enumerate(data["hops"].items()):
        if not curves:
            continue
        figure, axes = canvas("path (Å)", "energy above the start (eV)")
        for entry, energies, label, style in LINES:
            if entry in curves:
                axes.plot(curves[entry]["coordinate_A"], curves[entry][energies], label=label, **style)
        axes.set_title(hop, fontsize=9)
        axes.axhline(0, color="0.7", linewidth=0.6)
        axes.legend(frameon=False)
        figures[f"barrier_{number}"] = figure
    return figures
