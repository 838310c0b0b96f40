"""Short-range part of the particle mesh: neighbour search and a kernel between near atoms.

All in native tensor operations, so that an exported model has them.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlip import units
from mlip.electrostatics.kernels import short_range_kernels


class Bins(NamedTuple):
    """Atoms sorted into parallelepipeds, and how far neighbours can be in them."""

    order: Tensor  # [n] atoms in the order of their bins
    wrapped: Tensor  # [n, 3] Å, positions in that order, inside the cell
    start: Tensor  # [n_bins + 1] first row of each bin in `wrapped`
    home: Tensor  # [n_used] bins that hold an atom
    members: Tensor  # [n_bins, most] rows of `wrapped`, n for an empty place
    number: list[int]  # bins along each lattice vector
    reach: list[int]  # bins to look at on either side


def sort_into_bins(positions: Tensor, cell: Tensor, cutoff: float) -> Bins:
    """Bins about half a cutoff wide; a cell smaller than that is one bin with several images.

    positions [n, 3] Å, cell [3, 3] Å (rows, all three directions periodic), cutoff Å
    """
    inverse = torch.linalg.inv(cell)
    fraction = positions @ inverse
    fraction = fraction - fraction.floor()
    heights: list[float] = (1.0 / torch.linalg.vector_norm(inverse, dim=0)).tolist()
    number: list[int] = []
    reach: list[int] = []
    most_bins = int(positions.shape[0] ** (1.0 / 3.0)) + 1  # no use for bins much smaller than an atom's share
    for axis in range(3):
        n = max(1, min(int(2.0 * heights[axis] / cutoff), 2 * most_bins))
        number.append(n)
        reach.append(math.ceil(cutoff * n / heights[axis] - 1e-9))
    size = torch.tensor(number, device=positions.device)
    place = torch.minimum((fraction * size).floor().long(), size - 1)
    bin_of = (place[:, 0] * number[1] + place[:, 1]) * number[2] + place[:, 2]
    order = torch.argsort(bin_of)
    sorted_bins = bin_of[order]
    n_bins = number[0] * number[1] * number[2]
    count = torch.bincount(sorted_bins, minlength=n_bins)
    start = torch.nn.functional.pad(count.cumsum(0), [1, 0])
    rank = torch.arange(positions.shape[0], device=positions.device) - start[sorted_bins]
    members = torch.full([n_bins, int(count.max())], positions.shape[0], device=positions.device)
    members[sorted_bins, rank] = torch.arange(positions.shape[0], device=positions.device)
    return Bins(order, (fraction @ cell)[order], start, torch.nonzero(count)[:, 0], members, number, reach)


class Candidates(NamedTuple):
    """Atoms of the bins and one more, which fills empty places: far from everything, infinity would make NaN."""

    as_centre: Tensor  # [n + 1, 3] Å
    as_neighbour: Tensor  # [n + 1, 3] Å
    wanted: Tensor  # [n + 1] bool, a pair is left out when neither atom is wanted
    all_wanted: bool


def candidates_of(bins: Bins, wanted: Tensor) -> Candidates:
    """wanted  [n] bool, in the order of the bins"""
    far = torch.full([1, 3], 1e6, dtype=bins.wrapped.dtype, device=bins.wrapped.device)
    all_wanted = bool(wanted.all())
    return Candidates(
        torch.cat([bins.wrapped, far]), torch.cat([bins.wrapped, -far]), torch.cat([wanted, ~wanted[:1] & wanted[:1]]), all_wanted
    )  # fmt: skip


def neighbour_pairs(
    bins: Bins, cell: Tensor, cutoff: float, wanted: Tensor, candidates: int = 1 << 20
) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair closer than the cutoff, in both directions, centres ascending; images included, self excluded.

    wanted      [n] bool, in the order of the bins; a pair is left out when neither atom is wanted
    candidates  distances held at once
    returns     centre [n_pairs] and neighbour [n_pairs] int32, in the order of the bins, and
                r_neighbour - r_centre [n_pairs, 3] Å
    """
    centres: list[Tensor] = []
    neighbours: list[Tensor] = []
    vectors: list[Tensor] = []
    atoms, n_chunk = candidates_of(bins, wanted), bins_at_once(bins, candidates)
    for first in range(0, bins.home.shape[0], n_chunk):
        centre, neighbour, vector, _ = pairs_of_bins(bins, cell, cutoff, atoms, bins.home[first : first + n_chunk])
        centres.append(centre)
        neighbours.append(neighbour)
        vectors.append(vector)
    return torch.cat(centres), torch.cat(neighbours), torch.cat(vectors)


def bins_at_once(bins: Bins, candidates: int) -> int:
    """Bins whose atoms have so many candidates for neighbours."""
    most, n_boxes = bins.members.shape[1], 1
    for reach in bins.reach:
        n_boxes = n_boxes * (2 * reach + 1)
    return max(1, candidates // (most * most * n_boxes))


def pairs_of_bins(
    bins: Bins, cell: Tensor, cutoff: float, atoms: Candidates, home: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`neighbour_pairs` of the atoms in some bins, home [n_bins]; and the image of each neighbour, [n_pairs, 3] int8."""
    device = bins.wrapped.device
    steps = [torch.arange(-reach, reach + 1, device=device) for reach in bins.reach]
    offsets = torch.cartesian_prod(steps[0], steps[1], steps[2])
    size = torch.tensor(bins.number, device=device)
    most = bins.members.shape[1]
    n_others = offsets.shape[0] * most
    self_place = torch.arange(most, device=device)
    place = torch.stack([home // (bins.number[1] * bins.number[2]), home // bins.number[2], home], 1) % size
    target = place[:, None] + offsets
    image = torch.div(target, size, rounding_mode="floor")
    target = target - image * size
    flat = (target[:, :, 0] * bins.number[1] + target[:, :, 1]) * bins.number[2] + target[:, :, 2]
    mine = bins.members.index_select(0, home)  # [b, most]
    others = bins.members.index_select(0, flat.flatten()).reshape(-1, n_others)
    r_mine = atoms.as_centre.index_select(0, mine.flatten()).reshape(-1, most, 3)
    origin = r_mine[:, :1]  # a bin that is used has a first atom
    shift = (image.to(cell.dtype) @ cell - origin).repeat_interleave(most, dim=1)
    r_others = atoms.as_neighbour.index_select(0, others.flatten()).reshape(-1, n_others, 3) + shift
    r_mine = r_mine - origin
    square = r_others.square().sum(2)[:, None] + r_mine.square().sum(2)[:, :, None]
    near = square.baddbmm_(r_mine, r_others.transpose(1, 2), alpha=-2.0) < cutoff * cutoff
    near[:, self_place, (offsets.shape[0] // 2) * most + self_place] = False
    if not atoms.all_wanted:
        near = near & (atoms.wanted[mine][:, :, None] | atoms.wanted[others][:, None])
    hit = torch.nonzero(near.flatten())[:, 0]
    b_i = torch.div(hit, n_others, rounding_mode="floor")
    b_j = torch.div(b_i, most, rounding_mode="floor") * n_others + (hit - b_i * n_others)
    vector = r_others.flatten(0, 1).index_select(0, b_j)
    vector = vector.sub_(r_mine.flatten(0, 1).index_select(0, b_i))
    box = torch.div(b_j, most, rounding_mode="floor")
    return (
        mine.flatten().int().index_select(0, b_i),
        others.flatten().int().index_select(0, b_j),
        vector,
        image.flatten(0, 1).to(torch.int8).index_select(0, box),
    )


class Pairs(NamedTuple):
    """Every pair stands in both directions; float64, indices int32.

    Charges without a graph need the first kernel only: then the vectors are given by images, and the next kernel is
    computed when forces are.
    """

    centre: Tensor  # [n_pairs]
    neighbour: Tensor  # [n_pairs]
    vector: Tensor  # [n_pairs, 3] Å, r_neighbour - r_centre; or no rows
    image: Tensor  # [n_pairs, 3] int8, the cell of the neighbour, if there are no vectors
    kernels: list[Tensor]  # k_e B_0 .. of `short_range_kernels`, [n_pairs] each


def no_pairs(positions: Tensor) -> Pairs:
    """An empty list."""
    none, index = positions.new_zeros(0, 3), torch.zeros([0], dtype=torch.int32, device=positions.device)
    return Pairs(index, index, none, none.to(torch.int8), [])


def pair_exponent(width_i: Tensor, width_j: Tensor) -> Tensor:
    """g = 1 / sqrt(2 (s_i^2 + s_j^2)) Å^-1; two point charges have a number so large that erf(g d) is one."""
    return 1.0 / (2.0 * (width_i.square() + width_j.square()) + 1e-18).sqrt()


def make_pairs(
    centre: Tensor,
    neighbour: Tensor,
    vector: Tensor,
    width: Tensor,
    eta: float,
    cutoff: float,
    order: int,
    chunk: int = 1 << 20,
) -> Pairs:
    """Kernel of every pair; order 1 for energies and forces of charges, 3 with dipoles; chunk: pairs at once."""
    parts: list[list[Tensor]] = [[] for _ in range(order + 1)]
    for first in range(0, max(vector.shape[0], 1), chunk):
        last = first + chunk
        g = pair_exponent(width.index_select(0, centre[first:last]), width.index_select(0, neighbour[first:last]))
        square = vector[first:last].square().sum(1)
        for k, values in enumerate(short_range_kernels(square, g, eta, cutoff, order)):
            parts[k].append(units.COULOMB * values)
    return Pairs(centre, neighbour, vector, centre[:0].to(torch.int8), [torch.cat(part) for part in parts])


def pairs_of_charges(
    bins: Bins, cell: Tensor, cutoff: float, wanted: Tensor, width: Tensor, eta: float, candidates: int = 1 << 20
) -> Pairs:
    """Pairs without vectors, 19 bytes each; arguments as in neighbour_pairs and make_pairs."""
    centres: list[Tensor] = []
    neighbours: list[Tensor] = []
    images: list[Tensor] = []
    kernels: list[Tensor] = []
    atoms, n_chunk = candidates_of(bins, wanted), bins_at_once(bins, candidates)
    for first in range(0, bins.home.shape[0], n_chunk):
        i, j, vector, image = pairs_of_bins(bins, cell, cutoff, atoms, bins.home[first : first + n_chunk])
        g = pair_exponent(width.index_select(0, i), width.index_select(0, j))
        kernels.append(units.COULOMB * short_range_kernels(vector.square().sum(1), g, eta, cutoff, 0)[0])
        centres.append(i)
        neighbours.append(j)
        images.append(image)
    kernel = torch.cat(kernels)
    kernels.clear()
    return Pairs(torch.cat(centres), torch.cat(neighbours), kernel.new_zeros(0, 3), torch.cat(images), [kernel])


def with_vectors(
    pairs: Pairs, first: int, last: int, positions: Tensor, cell: Tensor, width: Tensor, eta: float, cutoff: float
) -> Pairs:
    """Pairs first .. last of `pairs_of_charges` with vectors, for the forces.

    positions  [n, 3] Å, by place
    """
    i, j = pairs.centre[first:last], pairs.neighbour[first:last]
    vector = pairs.image[first:last].to(cell.dtype) @ cell
    vector = vector.add_(positions.index_select(0, j)).sub_(positions.index_select(0, i))
    return make_pairs(i, j, vector, width, eta, cutoff, 1)


def apply_pairs(pairs: Pairs, charges: Tensor, dipoles: Tensor, chunk: int = 1 << 17) -> tuple[Tensor, Tensor]:
    """Potential [n] V and its gradient [n, 3] V/Å at the atoms; no rows of dipoles: the gradient is left out.

    phi_i = sum_j q_j B_0 - B_1 mu_j.r;  gradient_i = sum_j r (B_1 q_j - B_2 mu_j.r) + B_1 mu_j,  r = r_j - r_i
    """
    potential, gradient = torch.zeros_like(charges), torch.zeros_like(dipoles)
    for first in range(0, pairs.centre.shape[0], chunk):  # small enough for the cache
        last = first + chunk
        i, j = pairs.centre[first:last], pairs.neighbour[first:last]
        q = charges.index_select(0, j)
        values = q * pairs.kernels[0][first:last]
        if dipoles.shape[0] > 0:
            r, b1, mu = pairs.vector[first:last], pairs.kernels[1][first:last], dipoles.index_select(0, j)
            along = (mu * r).sum(1)
            values = values - b1 * along
            radial = b1 * q - pairs.kernels[2][first:last] * along
            gradient.index_add_(0, i, radial[:, None] * r + b1[:, None] * mu)
        potential.index_add_(0, i, values)
    return potential, gradient


def pair_slopes(pairs: Pairs, charges: Tensor, dipoles: Tensor, chunk: int = 1 << 17) -> tuple[Tensor, Tensor]:
    """Derivatives of the pair energy 1/2 sum_ij e(r_ij) at fixed sources: by positions, and by strain.

    e = q_i q_j B_0 + B_1 (q_j mu_i.r - q_i mu_j.r + mu_i.mu_j) - B_2 (mu_i.r) (mu_j.r)
    returns [n, 3] eV/Å and W [3, 3] eV, the energy's change for r -> r + r @ strain being sum strain * W
    """
    n = charges.shape[0]
    forward = torch.zeros([n, 3], dtype=charges.dtype, device=charges.device)
    virial = torch.zeros([3, 3], dtype=charges.dtype, device=charges.device)
    for first in range(0, pairs.vector.shape[0], chunk):
        last = first + chunk
        i, j, r = pairs.centre[first:last], pairs.neighbour[first:last], pairs.vector[first:last]
        q_i, q_j = charges.index_select(0, i), charges.index_select(0, j)
        b1 = pairs.kernels[1][first:last]
        if dipoles.shape[0] == 0:
            slope = -(q_i * q_j * b1)[:, None] * r
        else:
            b2, b3 = pairs.kernels[2][first:last], pairs.kernels[3][first:last]
            mu_i, mu_j = dipoles.index_select(0, i), dipoles.index_select(0, j)
            along_i, along_j = (mu_i * r).sum(1), (mu_j * r).sum(1)
            radial = q_i * q_j * b1 + b2 * (q_j * along_i - q_i * along_j + (mu_i * mu_j).sum(1))
            radial = radial - b3 * along_i * along_j
            slope = b1[:, None] * (q_j[:, None] * mu_i - q_i[:, None] * mu_j) - radial[:, None] * r
            slope = slope - b2[:, None] * (along_j[:, None] * mu_i + along_i[:, None] * mu_j)
        forward.index_add_(0, i, slope, alpha=-1.0)  # the other half of each pair is the pair the other way
        virial += 0.5 * r.t() @ slope
    return forward, virial
