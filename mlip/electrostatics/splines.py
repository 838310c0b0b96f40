"""Cardinal B-splines: how an atom's charge is shared among the mesh points around it."""

import math

import torch
from torch import Tensor


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


def mesh_coordinates(positions: Tensor, cell: Tensor, shape: list[int]) -> Tensor:
    """Positions in units of the mesh intervals, [n, 3], differentiable in positions and cell."""
    size = torch.tensor(shape, dtype=positions.dtype, device=positions.device)
    return positions @ torch.linalg.inv(cell) * size


def stencil(coordinates: Tensor, shape: list[int], order: int) -> tuple[Tensor, Tensor]:
    """Flat mesh indices of the order^3 points of each atom, and the atoms' place in their interval.

    coordinates [n, 3]        mesh units, see mesh_coordinates
    returns     [n, order^3]  int64, and [n, 3]
    """
    floor = coordinates.detach().floor()
    points: list[Tensor] = []
    for axis in range(3):
        reach = torch.arange(order, device=coordinates.device)
        points.append((floor[:, axis].long()[:, None] - reach) % shape[axis])
    x, y, z = points[0] * (shape[1] * shape[2]), points[1] * shape[2], points[2]
    flat = x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]
    return flat.reshape(coordinates.shape[0], -1), coordinates - floor


def outer_weights(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Product of the three one-dimensional weights, each [n, order], as [n, order^3]."""
    xy = (x[:, :, None] * y[:, None, :]).reshape(x.shape[0], -1)
    return (xy[:, :, None] * z[:, None, :]).reshape(x.shape[0], -1)


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
