"""Elastic tensor from the stress of strained cells, its averages, Born stability.

Voigt order xx, yy, zz, yz, xz, xy; shear strains are twice the tensor's. Sign and conventions of Nye, Physical
Properties of Crystals; averages of Hill, Proc. Phys. Soc. A 65, 349 (1952).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from mlip import units
from mlip.errors import InputError
from mlip.evaluation.plots import canvas
from mlip.evaluation.result import Result
from mlip.evaluation.section import Section
from mlip.evaluation.static.relaxation import conditions, relax, relax_many, unconverged

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
ROUGH = 0.1  # of the bulk modulus: a larger internal error is worth a warning


@dataclass(frozen=True)
class ElasticTensor:
    """Elastic constants C11 .. C66, their Voigt-Reuss-Hill averages, and Born stability.

    strains  sizes, each applied in both directions; the slope is extrapolated to strain zero
    fmax     eV/Å; tighter than a lattice needs, because soft ions take up much of a small strain
    The interval of every number is internal: asymmetry of the tensor (the stress is a derivative of one energy, so
    it must be symmetric) and what the extrapolation changed. The crystal is first relaxed to zero stress.
    """

    atoms: Atoms
    strains: Sequence[float] = (0.005, 0.01)
    fmax: float = 0.001
    steps: int = 500

    def evaluate(self, calculator) -> Section:
        """Strain the relaxed cell, relax its ions and take the slopes of the stress."""
        strains = sorted(self.strains)
        if not strains or strains[0] <= 0 or strains[-1] > 0.05 or len(set(strains)) < len(strains):
            raise InputError(f"strains must be distinct, positive and at most 0.05, got {strains}")
        start = relax(self.atoms, calculator, fmax=self.fmax, steps=self.steps)
        signed = [sign * size for size in strains for sign in (1, -1)]
        cells = [strained(start.atoms, component, strain) for component in range(6) for strain in signed]
        relaxed = relax_many(cells, calculator, fmax=self.fmax, steps=self.steps)
        stresses = np.array([each.atoms.get_stress() for each in relaxed]).reshape(6, len(strains), 2, 6)
        tensor, error = (units.EV_PER_A3_IN_GPA * part for part in slopes(np.array(strains), stresses))
        notes = unconverged([start], "the cell") + unconverged(relaxed, "strained cells")
        results = tensor_results(tensor, error, conditions(self.atoms), notes)
        data = {"tensor_GPa": tensor.tolist(), "error_GPa": error.tolist(), "strains": strains}
        return Section("elastic", results, data, notes)

    @staticmethod
    def figures(data: Mapping) -> dict[str, Figure]:
        """Plot the tensor as a map."""
        return plot_elastic(data)


def strained(atoms: Atoms, component: int, strain: float) -> Atoms:
    """The crystal under one Voigt strain, ions carried along."""
    tensor = np.zeros((3, 3))
    i, j = VOIGT[component]
    tensor[i, j] += strain / 2
    tensor[j, i] += strain / 2
    copy = atoms.copy()
    copy.set_cell(copy.cell.array @ (np.eye(3) + tensor), scale_atoms=True)
    return copy


def slopes(strains: np.ndarray, stresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """C[i, j] = d stress_i / d strain_j at zero strain, symmetric, and its internal error, [6, 6] both.

    strains   [n] ascending;  stresses [6 strain components j, n, 2 signs (+, -), 6 stress components i]
    Central differences D(h) = C + c h^2 of each size, extrapolated to h = 0 if there are two sizes or more.
    """
    central = (stresses[:, :, 0] - stresses[:, :, 1]) / (2 * strains[:, None])  # [j, n, i]
    central = central.transpose(1, 2, 0)  # [n, i, j]
    if len(strains) == 1:
        whole = central[0]
    else:
        whole = np.polynomial.polynomial.polyfit(strains**2, central.reshape(len(strains), 36), 1)[0].reshape(6, 6)
    asymmetry = (whole - whole.T) / 2
    bent = whole - central[0]
    return (whole + whole.T) / 2, np.sqrt(asymmetry**2 + ((bent + bent.T) / 2) ** 2)


def voigt(tensor: np.ndarray) -> tuple[float, float]:
    """(K, G) of equal strain in all grains: upper bounds.  tensor [6, 6] GPa"""
    main, off, shear = np.trace(tensor[:3, :3]), tensor[0, 1] + tensor[0, 2] + tensor[1, 2], np.trace(tensor[3:, 3:])
    return (main + 2 * off) / 9, (main - off + 3 * shear) / 15


def reuss(tensor: np.ndarray) -> tuple[float, float]:
    """(K, G) of equal stress in all grains: lower bounds."""
    s = np.linalg.inv(tensor)
    main, off, shear = np.trace(s[:3, :3]), s[0, 1] + s[0, 2] + s[1, 2], np.trace(s[3:, 3:])
    return 1 / (main + 2 * off), 15 / (4 * main - 4 * off + 3 * shear)


def averages(tensor: np.ndarray) -> dict[str, float]:
    """K, G, E in GPa by Hill (mean of Voigt and Reuss), Poisson's ratio nu, and the bounds."""
    (kv, gv), (kr, gr) = voigt(tensor), reuss(tensor)
    k, g = (kv + kr) / 2, (gv + gr) / 2
    return {"K": k, "G": g, "E": 9 * k * g / (3 * k + g), "nu": (3 * k - 2 * g) / (6 * k + 2 * g),
            "K_voigt": kv, "K_reuss": kr, "G_voigt": gv, "G_reuss": gr}  # fmt: skip


def smallest_eigenvalue(tensor: np.ndarray) -> float:
    """GPa; a crystal resists every strain exactly when it is positive (Mouhat and Coudert, PRB 90, 224104 (2014))."""
    return float(np.linalg.eigvalsh(tensor)[0])


def propagated(function: Callable[[np.ndarray], float], tensor: np.ndarray, error: np.ndarray) -> float:
    """Error of function(tensor) from independent errors of its 21 components, to first order."""
    step, square = 1e-4 * np.abs(tensor).max(), 0.0
    for i, j in zip(*np.triu_indices(6), strict=True):
        push = np.zeros((6, 6))
        push[i, j] = push[j, i] = step
        square += (error[i, j] * (function(tensor + push) - function(tensor - push)) / (2 * step)) ** 2
    return float(np.sqrt(square))


def tensor_results(tensor: np.ndarray, error: np.ndarray, where: dict, notes: list[str]) -> list[Result]:
    """Every number of the tensor; `notes` gets a sentence if they are doubtful."""
    lowest = smallest_eigenvalue(tensor)
    slack = propagated(smallest_eigenvalue, tensor, error)
    if lowest <= 0:
        notes.append(f"not stable (Born): a strain exists that lowers the energy, smallest eigenvalue {lowest:.2f} GPa")
    numbers = averages(tensor) if lowest > 0 else {"K_voigt": voigt(tensor)[0], "G_voigt": voigt(tensor)[1]}
    rough = propagated(lambda c: voigt(c)[0], tensor, error) > ROUGH * abs(voigt(tensor)[0])
    if rough:
        notes.append("the internal error is beyond 10 % of K: relax tighter, or use float64")
    verdict = "warn" if notes else ""
    results = []
    for name, value in numbers.items():
        spread = propagated(lambda c, name=name: (averages(c) if lowest > 0 else numbers)[name], tensor, error)
        unit = "" if name == "nu" else "GPa"
        results.append(Result(name, value, unit, value - spread, value + spread, verdict, conditions=where))
    results.append(Result("smallest_elastic_eigenvalue", lowest, "GPa", lowest - slack, lowest + slack,
                          "pass" if lowest > 0 else "fail", conditions=where))  # fmt: skip
    for i, j in zip(*np.triu_indices(6), strict=True):
        value, spread = tensor[i, j], error[i, j]
        results.append(Result(f"C{i + 1}{j + 1}", value, "GPa", value - spread, value + spread, conditions=where))
    return results


def plot_elastic(data: Mapping) -> dict[str, Figure]:
    """elastic: the tensor as a map with its numbers and errors, GPa."""
    tensor, error = np.array(data["tensor_GPa"]), np.array(data["error_GPa"])
    names = ("xx", "yy", "zz", "yz", "xz", "xy")
    figure, axes = canvas("strain", "stress", size=(5.2, 4.6))
    limit = np.abs(tensor).max()
    image = axes.imshow(tensor, cmap="PuOr", vmin=-limit, vmax=limit)
    for i in range(6):
        for j in range(6):
            colour = "white" if abs(tensor[i, j]) > 0.6 * limit else "black"
            axes.text(
                j, i, f"{tensor[i, j]:.1f}\n±{error[i, j]:.1f}", ha="center", va="center", fontsize=7, color=colour
            )
    axes.set_xticks(range(6), names)
    axes.set_yticks(range(6), names)
    figure.colorbar(image, ax=axes, label="elastic constant (GPa)")
    return {"elastic": figure}
