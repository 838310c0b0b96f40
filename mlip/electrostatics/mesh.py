"""Particle-mesh Ewald: the smooth part of the Coulomb energy of many atoms in N log N operations.

Every atom carries, on the mesh, a Gaussian so wide that two of them interact by erf(d / (sqrt2 eta)) / d. What its
own width adds at short range is in pairs.py. The energy is 1/2 x K x with K = W F^-1 G F W^T: W spreads charges with
B-splines, G is the Coulomb kernel of the waves k != 0. K is symmetric to rounding, so conjugate gradients may use it,
and forces are the exact derivative of the discrete energy. Smooth PME: Essmann et al., J. Chem. Phys. 103, 8577 (1995).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.splines import aliasing_sum, mesh_coordinates, outer_weights, spline_jet, stencil


class Mesh(NamedTuple):
    """A mesh with the kernel of its waves: what depends on the cell alone."""

    shape: list[int]  # points along each vector of the box
    order: int  # of the B-splines, even
    kernel: Tensor  # [n0, n1, n2 // 2 + 1] eV / e^2: irfftn(kernel * rfftn(charge)) is the potential


def good_size(n: int) -> int:
    """Smallest even number >= n whose only prime factors are 2, 3 and 5 (fast Fourier transforms like it)."""
    size = max(n + n % 2, 2)
    while not _is_smooth(size):
        size += 2
    return size


def _is_smooth(rest: int) -> bool:
    for prime in [2, 3, 5]:
        while rest % prime == 0:
            rest = rest // prime
    return rest == 1


def mesh_shape(box: Tensor, spacing: float) -> list[int]:
    """Mesh points along each lattice vector, no further apart than `spacing` (Å). A step function of the cell."""
    lengths: list[float] = torch.linalg.vector_norm(box.detach(), dim=1).tolist()
    return [good_size(math.ceil(length / spacing - 1e-9)) for length in lengths]


def mesh_spacing(eta: float, order: int, tolerance: float) -> float:
    """Spacing (Å) at which the error of the mesh is about `tolerance` times the potential of a unit charge at eta.

    The alias of a wave k enters with (k h / (2 pi - k h))^order, and the wave itself weighs exp(-eta^2 k^2 / 2):
    the largest product over k is set equal to the tolerance.
    """
    low, high = 0.05 * eta, 2.0 * eta
    for _ in range(40):
        middle = 0.5 * (low + high)
        worst = 0.0
        for step in range(1, 200):
            kh = math.pi * step / 200
            worst = max(worst, (kh / (2 * math.pi - kh)) ** order * math.exp(-0.5 * (kh * eta / middle) ** 2))
        if worst < tolerance:
            low = middle
        else:
            high = middle
    return low


def make_mesh(box: Tensor, shape: list[int], eta: float, order: int, slab: bool = False) -> Mesh:
    """Mesh whose kernel is 4 pi k_e exp(-eta^2 k^2 / 2) / (V k^2), corrected for the splines; differentiable in box.

    box    [3, 3] Å, rows are lattice vectors; for a slab the third is along the normal, at least twice as long
           as the slab is thick with its Gaussians: see slab_box
    shape  mesh points; give the same ones all along a run under pressure, and the energy has no jump at all
    eta    Å, splitting width
    order  even; splines of order p have p - 2 continuous derivatives
    slab   the Coulomb interaction is cut at half the box along the normal, which makes the images there exactly
           silent (Rozzi et al., Phys. Rev. B 73, 205119 (2006)); convention -2 pi |z| / area for k parallel = 0
    """
    k2, in_plane = squared_waves(box, shape)
    correction = [
        1.0 / aliasing_sum(torch.arange(k2.shape[axis], device=box.device), shape[axis], order, box.dtype)
        for axis in range(3)
    ]
    origin = torch.zeros_like(k2)
    origin[0, 0, 0] = 1.0
    kernel = (1.0 - origin) * torch.exp(-0.5 * eta * eta * k2) / (k2 + origin)
    if slab:
        reach = 0.5 * torch.linalg.vector_norm(box[2])
        upright = in_plane.detach() < 1e-20  # k parallel = 0: there the root has no derivative
        decay = torch.exp(-reach * torch.where(upright, torch.ones_like(in_plane), in_plane).sqrt())
        decay = torch.where(upright, torch.ones_like(decay), decay)
        sign = 1.0 - 2.0 * (torch.arange(k2.shape[2], device=box.device) % 2).to(k2)  # cos(k_z L / 2)
        kernel = kernel * (1.0 - sign * decay) - 0.5 * reach * reach * origin
    scale = 4 * math.pi * units.COULOMB / torch.linalg.det(box).abs() * (shape[0] * shape[1] * shape[2])
    spline = correction[0][:, None, None] * correction[1][:, None] * correction[2]
    return Mesh(shape, order, scale * spline * kernel)


def squared_waves(box: Tensor, shape: list[int]) -> tuple[Tensor, Tensor]:
    """k^2 of every wave of the mesh, [n0, n1, n2 // 2 + 1] Å^-2, and its part from the first two vectors, [n0, n1, 1].

    The second is k^2 parallel to a slab, whose box has the third vector along the normal.
    """
    inverse = torch.linalg.inv(box)
    metric = 4 * math.pi**2 * inverse.t() @ inverse
    m: list[Tensor] = []
    for axis in range(3):
        n = shape[axis]
        index = torch.arange(n // 2 + 1 if axis == 2 else n, device=box.device)
        m.append(torch.where(index > n // 2, index - n, index).to(box.dtype))
    x, y, z = m[0][:, None, None], m[1][:, None], m[2]
    in_plane = metric[0, 0] * x * x + 2 * metric[0, 1] * x * y + metric[1, 1] * y * y
    return in_plane + metric[2, 2] * z * z + 2 * (metric[0, 2] * x + metric[1, 2] * y) * z, in_plane


def slab_box(positions: Tensor, cell: Tensor, pbc: Tensor, eta: float, tolerance: float) -> Tensor:
    """Two periodic vectors and a third along the normal, twice the reach of the interaction inside the slab.

    Positions along the normal count as they are (not wrapped). The result does not depend on the length.
    """
    plane = cell[pbc]
    normal = torch.linalg.cross(plane[0], plane[1])
    normal = normal / torch.linalg.vector_norm(normal)
    height = (positions.detach() @ normal.detach()).aminmax()
    reach = float(height[1] - height[0]) + eta * math.sqrt(-2 * math.log(tolerance))
    return torch.stack([plane[0], plane[1], normal * (2.0 * reach)])


def spread(mesh: Mesh, coordinates: Tensor, charges: Tensor, dipoles: Tensor, chunk: int = 1 << 19) -> Tensor:
    """Charge on the mesh, [n0, n1, n2] e: each atom shares its charge among order^3 points.

    coordinates [n, 3] mesh units; charges [n]; dipoles [n, 3] in mesh units (no rows: none); chunk: weights at once
    """
    shape, order = mesh.shape, mesh.order
    polar = dipoles.shape[0] > 0
    grid = torch.zeros([shape[0] * shape[1] * shape[2]], dtype=charges.dtype, device=charges.device)
    step = max(1, chunk // (order * order * order))
    for first in range(0, coordinates.shape[0], step):
        points, fraction = stencil(coordinates[first : first + step], shape, order)
        w = spline_jet(fraction, order, 1 if polar else 0)
        x = w[0, :, 0] * charges[first : first + step, None]
        if polar:
            mu = dipoles[first : first + step]
            x = x + w[1, :, 0] * mu[:, 0, None]
            along_y = outer_weights(w[0, :, 0] * mu[:, 1, None], w[1, :, 1], w[0, :, 2])
            along_z = outer_weights(w[0, :, 0] * mu[:, 2, None], w[0, :, 1], w[1, :, 2])
            values = outer_weights(x, w[0, :, 1], w[0, :, 2]) + along_y + along_z
        else:
            values = outer_weights(x, w[0, :, 1], w[0, :, 2])
        grid.scatter_add_(0, points.flatten(), values.flatten())
    return grid.reshape(shape)


def potential_on_mesh(mesh: Mesh, grid: Tensor) -> Tensor:
    """Potential (V) at the mesh points of the charge there: convolution by fast Fourier transform."""
    return torch.fft.irfftn(mesh.kernel * torch.fft.rfftn(grid), s=mesh.shape)


def gather(mesh: Mesh, coordinates: Tensor, grid: Tensor, n_derivatives: int, chunk: int = 1 << 19) -> list[Tensor]:
    """Potential at the atoms [n], its gradient [n, 3] and curvature [n, 3, 3] in mesh units, as many as asked for.

    The adjoint of spread. The last axis is contracted first, so the derivatives cost little.
    """
    order, flat = mesh.order, grid.flatten()
    step = max(1, chunk // (order * order * order))
    results: list[list[Tensor]] = [[] for _ in range(n_derivatives + 1)]
    for first in range(0, coordinates.shape[0], step):
        points, fraction = stencil(coordinates[first : first + step], mesh.shape, order)
        w = spline_jet(fraction, order, n_derivatives)  # [derivative, n, 3, order]
        n = points.shape[0]
        values = torch.index_select(flat, 0, points.flatten()).reshape(n, order * order, order)
        along_z = torch.bmm(values, w[:, :, 2].permute(1, 2, 0)).reshape(n, order, -1)  # [n, x, (y, c)]
        n_w = n_derivatives + 1
        along_y = torch.bmm(
            along_z.reshape(n, order, order, n_w).transpose(2, 3).reshape(n, order * n_w, order),
            w[:, :, 1].permute(1, 2, 0),
        )  # [n, (x, c), b]
        jet = torch.bmm(w[:, :, 0].permute(1, 0, 2), along_y.reshape(n, order, n_w * n_w))
        jet = jet.reshape(n, n_w, n_w, n_w)  # [n, a, c, b]: derivatives along x, z, y
        results[0].append(jet[:, 0, 0, 0])
        if n_derivatives > 0:
            results[1].append(torch.stack([jet[:, 1, 0, 0], jet[:, 0, 0, 1], jet[:, 0, 1, 0]], dim=1))
        if n_derivatives > 1:
            xx, yy, zz = jet[:, 2, 0, 0], jet[:, 0, 0, 2], jet[:, 0, 2, 0]
            xy, xz, yz = jet[:, 1, 0, 1], jet[:, 1, 1, 0], jet[:, 0, 1, 1]
            curvature = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], dim=1)
            results[2].append(curvature.reshape(n, 3, 3))
    return [torch.cat(parts) for parts in results]


def mesh_potential(
    positions: Tensor, box: Tensor, mesh: Mesh, charges: Tensor, dipoles: Tensor
) -> tuple[Tensor, Tensor]:
    """Potential of all the wide Gaussians at every atom, self-interaction included; differentiable any number of times.

    The energy is 1/2 sum (q phi + mu . gradient). Zero mean potential: a net charge sees a neutralising background.

    positions [n, 3] Å, box [3, 3] Å, charges [n] e, dipoles [n, 3] e Å (no rows: none)
    returns   phi [n] V and its gradient [n, 3] V/Å (no rows without dipoles)
    """
    coordinates = mesh_coordinates(positions, box, mesh.shape)
    polar = dipoles.shape[0] > 0
    grid = potential_on_mesh(mesh, spread(mesh, coordinates, charges, mesh_coordinates(dipoles, box, mesh.shape)))
    jet = gather(mesh, coordinates, grid, 1 if polar else 0)
    if not polar:
        return jet[0], dipoles
    to_mesh = mesh_coordinates(torch.eye(3, dtype=box.dtype, device=box.device), box, mesh.shape)
    return jet[0], jet[1] @ to_mesh.t()


def mesh_energies(positions: Tensor, box: Tensor, mesh: Mesh, charges: Tensor, dipoles: Tensor) -> Tensor:
    """Energies [n] eV of given sources with first derivatives only, in a tenth of the memory (for inference).

    mesh_potential's energy: the values are computed without a graph, and a term that is zero carries the exact
    derivative with respect to positions and box. Sources are constants here.
    """
    polar = dipoles.shape[0] > 0
    charges, dipoles = charges.detach(), dipoles.detach()
    coordinates = mesh_coordinates(positions, box, mesh.shape)
    moments = mesh_coordinates(dipoles, box, mesh.shape)
    with torch.no_grad():
        wave = torch.fft.rfftn(spread(mesh, coordinates, charges, moments))
        grid = torch.fft.irfftn(mesh.kernel * wave, s=mesh.shape)
        jet = gather(mesh, coordinates, grid, 2 if polar else 1)
        energies = 0.5 * charges * jet[0]
        force = charges[:, None] * jet[1]
        if polar:
            energies = energies + 0.5 * (moments * jet[1]).sum(1)
            force = force + (jet[2] @ moments[:, :, None]).squeeze(2)
        twice = torch.full([wave.shape[2]], 2.0, dtype=box.dtype, device=box.device)
        twice[0] = 1.0
        if mesh.shape[2] % 2 == 0:
            twice[-1] = 1.0
        power = wave.abs().square() * twice / (2.0 * mesh.shape[0] * mesh.shape[1] * mesh.shape[2])
    carrier = ((coordinates - coordinates.detach()) * force).sum(1)
    if polar:
        carrier = carrier + ((moments - moments.detach()) * jet[1]).sum(1)
    in_kernel = ((mesh.kernel - mesh.kernel.detach()) * power).sum() / positions.shape[0]
    return energies + carrier + in_kernel
