"""An empty figure of a static property."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def canvas(xlabel: str, ylabel: str, size: tuple[float, float] = (5.2, 3.8)) -> tuple[Figure, Axes]:
    """A figure with one pair of axes and their labels."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure, axes
