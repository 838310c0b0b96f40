"""Cardinal B-splines: spread of charge from atoms to a mesh, and the potential at the atoms."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics.compiled_splines import ORDERS, compiled_gather, compiled_spread, plain


class Stencil(NamedTuple):
    """The mesh points of every atom along each lattice vector, order of them, and its weights there."""

    points: Tensor  # [n, 3, order] int32: numbers along the three vectors
    jet: Tensor  # [n_derivatives + 1, n, 3, order], see spline_jet


def spline_weights(fraction: Tensor, order: int) -> Tensor:
    """Values M_p(f + j), j = 0..p-1, of the cardinal B-spline of order p (degree p-1, p-2 times differentiable).

        M_2(x) = 1 - |x - 1|,   M_n(x) = [x M_{n-1}(x) + (n - x) M_{n-1}(x - 1)] / (n - 1)

    fraction  [n, 3]        position within its mesh interval, 0 <= f < 1
    returns   [n, 3, order] sum over j is one; the point floor(u) - j takes the weight j
    Source: Essmann et al., J. Chem. Phys. 103, 8577 (1995), Eq. 4.1.
    """
    x = fraction[:, :, None]
    weights = torch.cat([x, 1 - x], dim=2)
    for n in range(3, order + 1):
        x_j = x + torch.arange(n, dtype=x.dtype, device=x.device)
        lower = torch.nn.functional.pad(weights, [0, 1])
        upper = torch.nn.functional.pad(weights, [1, 0])
        weights = (x_j * lower + (n - x_j) * upper) / (n - 1)
    return weights


def spline_jet(fraction: Tensor, order: int, n_derivatives: int) -> Tensor:
    """Spline weights and their derivatives with respect to the position in mesh units.

    returns [n_derivatives + 1, n, 3, order];  M_p'(x) = M_{p-1}(x) - M_{p-1}(x - 1)
    """
    jet: list[Tensor] = [spline_weights(fraction, order)]
    for k in range(1, n_derivatives + 1):
        weights = spline_weights(fraction, order - k)
        for _ in range(k):
            weights = torch.nn.functional.pad(weights, [0, 1]) - torch.nn.functional.pad(weights, [1, 0])
        jet.append(weights)
    return torch.stack(jet)


def aliasing_sum(index: Tensor, size: int, order: int, dtype: torch.dtype) -> Tensor:
    """Sum over aliases j of sinc(pi (m / n + j))^(2 p): the power with which spreading and gathering weigh a wave m.

    By Poisson's formula it is a short cosine series with the spline of order 2 p at whole numbers.

    index [n_waves] integers m; size n
    """
    zero = torch.zeros([1, 3], dtype=dtype, device=index.device)
    values = spline_weights(zero, 2 * order)[0, 0]  # M_2p(0), M_2p(1), ..., centre at p
    phase = index.to(dtype) * (2 * math.pi / size)
    distance = torch.arange(2 * order, dtype=dtype, device=index.device) - order
    return (phase[:, None] * distance).cos() @ values


def mesh_coordinates(positions: Tensor, cell: Tensor, shape: list[int]) -> Tensor:
    """Positions in units of the mesh intervals, [n, 3], differentiable in positions and cell."""
    size = torch.tensor(shape, dtype=positions.dtype, device=positions.device)
    return positions @ torch.linalg.inv(cell) * size


def make_stencil(
    coordinates: Tensor, shape: list[int], order: int, n_derivatives: int, chunk: int = 1 << 14
) -> Stencil:
    """Stencil of atoms at coordinates [n, 3] in mesh units (see mesh_coordinates), differentiable in them.

    chunk  atoms at once where no graph is kept: what the recursion of the splines takes is several times the result
    """
    n = coordinates.shape[0]
    if (coordinates.requires_grad and torch.is_grad_enabled()) or n <= chunk:
        return _stencil_of(coordinates, shape, order, n_derivatives)
    points = torch.empty([n, 3, order], dtype=torch.int32, device=coordinates.device)
    jet = torch.empty([n_derivatives + 1, n, 3, order], dtype=coordinates.dtype, device=coordinates.device)
    for first in range(0, n, chunk):
        last = min(first + chunk, n)
        part = _stencil_of(coordinates[first:last], shape, order, n_derivatives)
        points[first:last] = part.points
        jet[:, first:last] = part.jet
    return Stencil(points, jet)


def _stencil_of(coordinates: Tensor, shape: list[int], order: int, n_derivatives: int) -> Stencil:
    floor = coordinates.detach().floor()
    points: list[Tensor] = []
    for axis in range(3):
        reach = torch.arange(order, device=coordinates.device)
        points.append(((floor[:, axis].long()[:, None] - reach) % shape[axis]).int())
    return Stencil(torch.stack(points, dim=1), spline_jet(coordinates - floor, order, n_derivatives))


def flat_points(points: Tensor, shape: list[int]) -> Tensor:
    """Numbers of all order^3 mesh points of some atoms in the flattened mesh, [n * order^3] int32 or int64.

    points  [n, 3, order]
    """
    if shape[0] * shape[1] * shape[2] > 2147483647:
        points = points.long()
    x, y, z = points[:, 0] * (shape[1] * shape[2]), points[:, 1] * shape[2], points[:, 2]
    return (x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]).flatten()


def spread(stencil: Stencil, shape: list[int], charges: Tensor, dipoles: Tensor, chunk: int = 1 << 17) -> Tensor:
    """Charge on the mesh [n0, n1, n2] e: each atom shares its charge among order^3 points.

    charges [n] e; dipoles [n, 3] in mesh units (no rows: none); chunk: weights at once, small enough for the cache
    """
    order = stencil.jet.shape[3]
    if not torch.jit.is_scripting():  # noqa: SIM102  nested, so that TorchScript leaves it out
        if dipoles.shape[0] == 0 and order in ORDERS and plain(stencil.jet, charges):
            return compiled_spread(stencil.points, stencil.jet, shape, charges)
    n_points, polar = order * order * order, dipoles.shape[0] > 0
    grid = torch.zeros([shape[0] * shape[1] * shape[2]], dtype=charges.dtype, device=charges.device)
    step = max(1, chunk // n_points)
    for first in range(0, charges.shape[0], step):
        last = min(first + step, charges.shape[0])
        w = stencil.jet[:, first:last]
        yz = _outer(w[0, :, 1], w[0, :, 2])
        x = w[0, :, 0] * charges[first:last, None]
        if polar:
            mu = dipoles[first:last]
            x = x + w[1, :, 0] * mu[:, 0, None]
            across = _outer(w[1, :, 1] * mu[:, 1, None], w[0, :, 2]) + _outer(w[0, :, 1], w[1, :, 2] * mu[:, 2, None])
            values = _outer(x, yz) + _outer(w[0, :, 0], across)
        else:
            values = _outer(x, yz)
        grid.index_add_(0, flat_points(stencil.points[first:last], shape), values.flatten())
    return grid.reshape(shape)


def gather(stencil: Stencil, grid: Tensor, chunk: int = 1 << 17) -> list[Tensor]:
    """A function on the mesh at the atoms: values [n], gradient [n, 3], curvature [n, 3, 3].

    Derivatives are in mesh units, as many as the stencil has. The adjoint of spread; the last axis is contracted first,
    so derivatives cost little.
    """
    order, n_w = stencil.jet.shape[3], stencil.jet.shape[0]
    if not torch.jit.is_scripting():  # noqa: SIM102  nested, so that TorchScript leaves it out
        if n_w < 3 and order in ORDERS and plain(stencil.jet, grid):
            return compiled_gather(stencil.points, stencil.jet, grid)
    shape, flat = list(grid.shape), grid.flatten()
    step = max(1, chunk // (order * order * order))
    results: list[list[Tensor]] = [[] for _ in range(n_w)]
    for first in range(0, stencil.jet.shape[1], step):
        w = stencil.jet[:, first : first + step]  # [derivative, n, 3, order]
        n = w.shape[1]
        near = flat.index_select(0, flat_points(stencil.points[first : first + n], shape))
        along_z = torch.bmm(near.reshape(n, order * order, order), w[:, :, 2].permute(1, 2, 0))  # [n, (x, y), c]
        along_y = torch.bmm(
            along_z.reshape(n, order, order, n_w).transpose(2, 3).reshape(n, order * n_w, order),
            w[:, :, 1].permute(1, 2, 0),
        )  # [n, (x, c), b]
        jet = torch.bmm(w[:, :, 0].permute(1, 0, 2), along_y.reshape(n, order, n_w * n_w))
        jet = jet.reshape(n, n_w, n_w, n_w)  # [n, a, c, b]: derivatives along x, z, y
        results[0].append(jet[:, 0, 0, 0])
        if n_w > 1:
            results[1].append(torch.stack([jet[:, 1, 0, 0], jet[:, 0, 0, 1], jet[:, 0, 1, 0]], dim=1))
        if n_w > 2:
            xx, yy, zz = jet[:, 2, 0, 0], jet[:, 0, 0, 2], jet[:, 0, 2, 0]
            xy, xz, yz = jet[:, 1, 0, 1], jet[:, 1, 1, 0], jet[:, 0, 1, 1]
            curvature = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], dim=1)
            results[2].append(curvature.reshape(n, 3, 3))
    return [torch.cat(parts) for parts in results]


def _outer(a: Tensor, b: Tensor) -> Tensor:
    """Products [n, i * j] of weights [n, i] and [n, j]."""
    return (a[:, :, None] * b[:, None, :]).reshape(a.shape[0], -1)
