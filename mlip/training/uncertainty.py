"""Uncertainty of a potential: covariance of its last weights, and its calibration on held-out frames."""

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mlip import keys
from mlip.errors import InputError
from mlip.models.last_layer import LastLayer
from mlip.models.potential import Potential, strainable
from mlip.nn.scatter import segment_sum

DIRECTIONS = 8  # random displacements of a frame whose derivatives stand for those by all coordinates
STEP = 1e-3  # Å, of the central difference
FEW = 4  # degrees of freedom up to which the mean of |error|^2 / sigma^2 has no finite variance


def posterior_root(rows: Tensor, zeta: float = 1.0) -> Tensor:
    """root [n_last, n_last] with root root^T = (rows^T rows + zeta^2)^-1: covariance of weights after a linear fit.

    rows  [n, n_last] float64, derivative of each fitted number by the weights over the standard deviation of its error
    zeta  1 / standard deviation of a weight before any data; networks start with weights of order one
    """
    precision = rows.T @ rows
    values, vectors = torch.linalg.eigh(0.5 * (precision + precision.T))
    return vectors / torch.sqrt(values.clamp(min=0.0) + zeta**2)


def last_layer_features(potential: Potential, graph: dict[str, Tensor]) -> Tensor:
    """Derivative of every energy by the last weights, [n_systems, n_last] eV. Raises ValueError where there are none."""
    strained, _ = potential.described(strainable(graph)[0])
    if keys.LAST_LAYER not in strained:
        raise InputError(f"none of the terms {potential.term_names} has a learned last layer: take a committee instead")
    return segment_sum(strained[keys.LAST_LAYER].detach().double(), graph[keys.BATCH], graph[keys.CELL].shape[0])


def fitted_rows(potential: Potential, graphs: Iterable[dict[str, Tensor]], seed: int = 0) -> Tensor:
    """Rows for `posterior_root` from labelled frames: one of each energy, DIRECTIONS of all forces of a batch together.

    The sum of g g^T over all force components, g = d^2 E / dw dr, is that over random signs v of (v . g)(v . g)^T on
    average: a difference of two energies' features replaces 3 n_atoms derivatives. Each row is divided by the rms
    residual of its kind over all frames, and forces count as often as they were labelled.
    """
    generator = torch.Generator().manual_seed(seed)
    energies, forces, residual_e, residual_f = [], [], [], []
    for graph in graphs:
        results = potential(graph)
        error = results[keys.ENERGY] - graph[keys.REF_ENERGY]
        energies.append(last_layer_features(potential, graph)[error.isfinite()])
        residual_e.append(error[error.isfinite()])
        labelled = graph[keys.REF_FORCES].isfinite().all(dim=1, keepdim=True)
        residual_f.append((results[keys.FORCES] - graph[keys.REF_FORCES])[labelled[:, 0]].ravel())
        for _ in range(DIRECTIONS if bool(labelled.any()) else 0):
            signs = torch.randint(0, 2, graph[keys.POSITIONS].shape, generator=generator) * 2.0 - 1.0
            move = STEP * signs.to(graph[keys.POSITIONS]) * labelled
            ends = [
                last_layer_features(potential, {**graph, keys.POSITIONS: graph[keys.POSITIONS] + s * move})
                for s in (1, -1)
            ]
            forces.append((ends[0] - ends[1]) / (2 * STEP * math.sqrt(DIRECTIONS)))
    rows = []
    for kind, residual in ((energies, residual_e), (forces, residual_f)):
        errors = torch.cat(residual)
        if len(errors):
            rows.append(torch.cat(kind) / errors.square().mean().sqrt().clamp(min=1e-6))
    if not rows:
        raise InputError("the covariance of the last layer needs frames with energies or forces, got none")
    return torch.cat(rows)


def last_layer(potential: Potential, graphs: Iterable[dict[str, Tensor]], n_draws: int = 16) -> LastLayer:
    """The potential with sigmas from its last layer; graphs are the frames it was trained on.

    n_draws  backward passes for the force sigmas: 16 are within a few per cent of all of them in rank correlation
    """
    exact = copy.deepcopy(potential).double().eval()
    wrapped = LastLayer(potential, posterior_root(fitted_rows(exact, graphs)), n_draws)
    return wrapped.train(potential.training)


def scale(sigma: Tensor, error: Tensor, freedom: float = math.inf) -> float:
    """alpha that makes errors of spread alpha sigma most likely: 1 is calibrated, above 1 sigma was too sure.

    sigma [n], error [n, d] in one unit, sigma^2 the sum of d variances; rows without spread do not count.
    Normal errors give alpha^2 = < |error|^2 / sigma^2 >. A sigma estimated from few members is now and then far too
    small: where d * freedom <= 4 that mean does not converge, and alpha is that of Student's law of as many degrees.
    """
    known = sigma > 0
    if not bool(known.any()):
        return 1.0
    d, nu = error.shape[1], error.shape[1] * freedom
    square = error[known].double().square().sum(1) * d / sigma[known].double().square()
    alpha2 = square.mean() / d
    for _ in range(0 if nu > FEW else 500):  # expectation, maximisation
        alpha2 = ((nu + d) / (nu + square / alpha2.clamp(min=1e-300)) * square).mean() / d
    return float(alpha2.sqrt())


def calibrate(potential: nn.Module, graphs: Iterable[dict[str, Tensor]]) -> dict:
    """Sets energy_scale and force_scale of a Committee or LastLayer so that sigma is the error on held-out frames.

    Forces by element; an element without labels takes the scale of all. Returns the scales, plain.
    """
    element, force_sigma, force_error, energy_sigma, energy_error = [], [], [], [], []
    potential.energy_scale.fill_(1.0)
    potential.force_scale.fill_(1.0)
    for graph in graphs:
        results = potential(graph)
        error = (results[keys.FORCES] - graph[keys.REF_FORCES]).detach()
        labelled = error.isfinite().all(dim=1)
        element.append(graph[keys.ATOMIC_NUMBERS][labelled])
        force_error.append(error[labelled])
        force_sigma.append(results[keys.FORCE_SIGMA].detach()[labelled])
        error = (results[keys.ENERGY] - graph[keys.REF_ENERGY]).detach()
        energy_error.append(error[error.isfinite()])
        energy_sigma.append(results[keys.ENERGY_SIGMA].detach()[error.isfinite()])
    if not element:
        raise InputError("calibration needs held-out frames with labels, got none")
    freedom = float(potential.spread_freedom)
    sigma, error, number = torch.cat(force_sigma), torch.cat(force_error), torch.cat(element)
    everyone = scale(sigma, error, freedom)
    forces = {z: scale(sigma[number == z], error[number == z], freedom) if bool((number == z).any()) else everyone
              for z in potential.elements}  # fmt: skip
    energy = scale(torch.cat(energy_sigma), torch.cat(energy_error)[:, None], float(potential.energy_freedom))
    potential.energy_scale.fill_(energy)
    potential.force_scale.copy_(torch.tensor(list(forces.values())))
    return {"energy_scale": energy, "force_scale": forces, "frames": len(torch.cat(energy_sigma))}
