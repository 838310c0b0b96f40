"""Smooth part of the Coulomb energy of many atoms in N log N operations, on a mesh.

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
from mlip.electrostatics.splines import Stencil, aliasing_sum, gather, make_stencil, mesh_coordinates, spread


class Mesh(NamedTuple):
    """A mesh with the kernel of its waves: what depends on the cell alone."""

    shape: list[int]  # points along each vector of the box
    order: int  # of the B-splines, even
    eta: float  # Å, splitting width
    slab: bool
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
    """Mesh with the kernel 4 pi k_e exp(-eta^2 k^2 / 2) / (V k^2), corrected for the splines.

    Differentiable in box.

    box    [3, 3] Å, rows are lattice vectors; for a slab the third is along the normal, at least twice as long
           as the slab is thick with its Gaussians: see slab.truncated_slab_box
    shape  mesh points; give the same ones all along a run under pressure, and the energy has no jump at all
    eta    Å, splitting width
    order  even; splines of order p have p - 2 continuous derivatives
    slab   the Coulomb interaction is cut at half the box along the normal, which removes the images there
           exactly (Rozzi et al., Phys. Rev. B 73, 205119 (2006)); convention -2 pi |z| / area for k parallel = 0
    """
    return Mesh(shape, order, eta, slab, mesh_kernel(box, shape, eta, order, slab, 0, shape[0]))


def mesh_kernel(box: Tensor, shape: list[int], eta: float, order: int, slab: bool, first: int, last: int) -> Tensor:
    """Planes first .. last of the kernel along the first vector, [last - first, n1, n2 // 2 + 1]; see make_mesh."""
    k2, in_plane = squared_waves(box, shape, first, last)
    planes = [torch.arange(first, last, device=box.device), torch.arange(shape[1], device=box.device),
              torch.arange(k2.shape[2], device=box.device)]  # fmt: skip
    correction = [1.0 / aliasing_sum(planes[axis], shape[axis], order, box.dtype) for axis in range(3)]
    origin = torch.zeros_like(k2)
    if first == 0:
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
    return scale * spline * kernel


def kernel_slope(mesh: Mesh, box: Tensor, power: Tensor, chunk: int = 1 << 18) -> Tensor:
    """Derivative of sum power * kernel by the box, [3, 3]; chunk: waves at once, for the memory of their graph.

    power  [n0, n1, n2 // 2 + 1]
    """
    slope, step = torch.zeros_like(box), max(1, chunk // (power.shape[1] * power.shape[2]))
    for first in range(0, power.shape[0], step):
        last = min(first + step, power.shape[0])
        variable = box.detach().requires_grad_(True)
        kernel = mesh_kernel(variable, mesh.shape, mesh.eta, mesh.order, mesh.slab, first, last)
        gradient: Tensor | None = torch.autograd.grad([(kernel * power[first:last]).sum()], [variable])[0]
        if gradient is not None:
            slope = slope + gradient
    return slope


def squared_waves(box: Tensor, shape: list[int], first: int, last: int) -> tuple[Tensor, Tensor]:
    """k^2 of the waves of some planes, [last - first, n1, n2 // 2 + 1] Å^-2, and its part from the first two vectors.

    The second, [last - first, n1, 1], is k^2 parallel to a slab, whose box has the third vector along the normal.
    """
    inverse = torch.linalg.inv(box)
    metric = 4 * math.pi**2 * inverse.t() @ inverse
    m: list[Tensor] = []
    for axis in range(3):
        n = shape[axis]
        index = torch.arange(n // 2 + 1 if axis == 2 else n, device=box.device)
        if axis == 0:
            index = index[first:last]
        m.append(torch.where(index > n // 2, index - n, index).to(box.dtype))
    x, y, z = m[0][:, None, None], m[1][:, None], m[2]
    in_plane = metric[0, 0] * x * x + 2 * metric[0, 1] * x * y + metric[1, 1] * y * y
    return in_plane + metric[2, 2] * z * z + 2 * (metric[0, 2] * x + metric[1, 2] * y) * z, in_plane


def mesh_gradient_carrier(positions: Tensor, box: Tensor, mesh: Mesh, charges: Tensor, dipoles: Tensor) -> Tensor:
    """Zero, [n] eV, with the mesh energy's first derivatives by positions and box at constant sources.

    The energy is 1/2 sum (q phi + mu . gradient) of the potential that the sources make on the mesh, self-interaction
    included, of zero mean: a net charge sees a neutralising background.

    positions [n, 3] Å, box [3, 3] Å, charges [n] e, dipoles [n, 3] e Å (no rows: none)
    """
    polar = dipoles.shape[0] > 0
    charges, dipoles = charges.detach(), dipoles.detach()
    coordinates = mesh_coordinates(positions, box, mesh.shape)
    moments = mesh_coordinates(dipoles, box, mesh.shape)
    with torch.no_grad():
        stencil = make_stencil(coordinates, mesh.shape, mesh.order, 2 if polar else 1)
        wave = torch.fft.rfftn(spread(stencil, mesh.shape, charges, moments))
        power = torch.view_as_real(wave).square().sum(3)
        jet = gather(stencil, torch.fft.irfftn(wave.mul_(mesh.kernel), s=mesh.shape))
        force = charges[:, None] * jet[1]
        if polar:
            force = force + (jet[2] @ moments[:, :, None]).squeeze(2)
        twice = torch.full([wave.shape[2]], 2.0, dtype=box.dtype, device=box.device)
        twice[0] = 1.0
        if mesh.shape[2] % 2 == 0:
            twice[-1] = 1.0
        power.mul_(twice / (2.0 * mesh.shape[0] * mesh.shape[1] * mesh.shape[2]))
    carrier = ((coordinates - coordinates.detach()) * force).sum(1)
    if polar:
        carrier = carrier + ((moments - moments.detach()) * jet[1]).sum(1)
    if box.requires_grad:
        carrier = carrier + ((box - box.detach()) * kernel_slope(mesh, box, power)).sum() / positions.shape[0]
    return carrier


def apply_mesh(mesh: Mesh, stencil: Stencil, box: Tensor, charges: Tensor, dipoles: Tensor) -> tuple[Tensor, Tensor]:
    """Potential [n] V and its gradient [n, 3] V/Å at the atoms, from the charge they spread.

    charges [n] e, dipoles [n, 3] e Å (no rows: no gradient); differentiable any number of times in all of them
    """
    wave = torch.fft.rfftn(spread(stencil, mesh.shape, charges, mesh_coordinates(dipoles, box, mesh.shape)))
    wave = wave * mesh.kernel if wave.requires_grad or mesh.kernel.requires_grad else wave.mul_(mesh.kernel)
    wave = torch.fft.ifftn(wave, dim=[0, 1])  # the inverse transform in two parts holds one array less
    jet = gather(stencil, torch.fft.irfft(wave, n=mesh.shape[2]))
    if dipoles.shape[0] == 0:
        return jet[0], dipoles
    to_mesh = mesh_coordinates(torch.eye(3, dtype=box.dtype, device=box.device), box, mesh.shape)
    return jet[0], jet[1] @ to_mesh.t()
