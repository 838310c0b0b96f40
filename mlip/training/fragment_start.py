"""Start of atomic charges: Gauss and Newton's method on the forces and torques between the molecules of the training set."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from ase.data import chemical_symbols, covalent_radii
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from mlip import keys
from mlip.electrostatics.atomic_charges import BOND, AtomicCharges, bonded
from mlip.electrostatics.batch import systems_of
from mlip.electrostatics.operator import System, coulomb_operator, operator_matrix
from mlip.electrostatics.parameters import FORMAL_CHARGE
from mlip.models.potential import Potential
from mlip.nn.edges import edge_vectors
from mlip.nn.scatter import segment_sum
from mlip.training.dielectric_start import pair_columns

NOISE, INSIDE = 0.001, 0.003  # eV/Å, of a force or a torque by the radius of the molecule, and of forces inside
POLAR = 0.4  # eV Å^2, of these times the cube of the nearest distance: what fields of a molecule do to another beside its charges
COPY = 0.02  # Å, rms distance of two copies of a rigid molecule
MOST_INSIDE = 60  # atoms of a structure whose forces inside are read
FREE = 10.0  # eV/Å, of a force inside a rigid molecule alone, of which nothing is assumed
CONTACT = 0.1  # eV, of a coefficient of a pair of elements in contact
CHARGE = 0.3  # e, of an atom: moments of a molecule leave open how its atoms share them
PRIOR = 2.0  # e, of the charge of an element, and of what a neighbour changes
MOST_ATOMS = 100  # of a structure: the derivatives of the Coulomb matrix grow as their cube
TRIALS, ITERATIONS = 8, 40
NEAR_WHOLE = 0.2  # e: molecules whose charges all come so near to whole numbers get these,
WHOLE = 0.001  # e, with this error


def with_fragment_start(
    build: Callable[[dict], nn.Module], statistics: dict, batches: Iterable[dict[str, Tensor]], max_structures: int = 20
) -> dict:
    """Statistics with `atomic_charges` {elements [n], neighbours and second_neighbours [n, n]} e if the potential has such charges.

        sum_i in molecule F_i, sum_i r_i x F_i ~ those of  q_i = z_i + sum_j u (w_ij + sum_k u v_ik),  and of pairs in contact

    Forces inside a molecule, whose bonds nothing simple describes, cancel in its net force and torque; what is left decides
    the charges of molecules and their moments at once, where the forces of a whole training decide them slowly: near
    ones the network explains without charges. Energies are even in all charges, so that none are a saddle: of TRIALS starts at
    random the best is taken, and its sign, if no total charge says it, from oxidation states. Charges are drawn to zero by CHARGE
    (restrained as in Bayly et al., J. Phys. Chem. 97, 10269 (1993)), z, w and v by PRIOR, coefficients of ten radial functions for
    contacts by CONTACT. Molecules far apart have whole charges: if all of a first fit
    are near to whole numbers, a second one holds them there. Forces inside decide how atoms share the moments of a molecule: of
    copies of a rigid one, in which bonds pull alike. Nothing is added if no structure has two molecules.
    """
    with torch.random.fork_rng(devices=[]):  # the weights of this one are thrown away: a seed gives the same training
        potential = build(statistics)
    terms = [term for term in potential.modules() if isinstance(term, AtomicCharges)]
    if not terms:
        return statistics
    frames: list[Fragments] = []
    references: list[Reference] = []
    for read, graph in enumerate(batches):
        frames += fragments_of(potential, terms[0], graph, references)
        if (read + 1) * len(graph[keys.CELL]) >= max_structures:
            break
    if not frames:
        return statistics
    n = len(statistics["elements"])
    found = signed(best_fit(frames, n + 2 * n * n), frames, statistics["elements"])
    charges = [frame.molecules @ (frame.descriptors @ found + frame.shares) for frame in frames if frame.apart]
    if charges and all((each - each.round()).abs().max() < NEAR_WHOLE for each in charges):
        found = descended(frames, found, [each.round() for each in charges])[0]
    around = found[n:].reshape(n, 2, n)
    table = {"elements": found[:n], "neighbours": around[:, 0], "second_neighbours": around[:, 1]}
    return {**statistics, "atomic_charges": {name: part.tolist() for name, part in table.items()}}


class Reference(NamedTuple):
    """A molecule of which others may be copies."""

    numbers: np.ndarray  # [m]
    arms: np.ndarray  # [m, 3] Å from the centre
    inside: np.ndarray  # [3 m - 6, m, 3] orthonormal motions that are not rigid; none if its atoms are on a line
    first: int  # number of the first of these among those of all references


class Motions(NamedTuple):
    """Orthonormal motions of the molecules of a structure."""

    vectors: Tensor  # [K, n, 3]
    inside: Tensor  # [K], number of the same motion of a reference, -1 for a translation or a rotation


class Fragments(NamedTuple):
    """Forces along motions of the molecules of one structure, K in all, as a function of its charges q [n] e."""

    species: Tensor  # [n] rows of the elements
    descriptors: Tensor  # [n, P], q = descriptors @ unknown + shares, which adds up to the total charge
    shares: Tensor  # [n] e
    coulomb: Tensor  # C [K, n, n] eV/Å/e^2, the forces are -q C q
    contacts: Tensor  # [K, m] 1/Å, of pairs of elements
    inside: Tensor  # [K], of `Motions`
    nearest: float  # Å between atoms of two molecules, infinite beyond the cutoff
    labels: Tensor  # [K] eV/Å
    molecules: Tensor  # [n_molecules, n], one where an atom belongs to it
    charged: bool
    apart: bool  # no atom is near enough to another molecule's to count as half bonded


def fragments_of(
    potential: Potential, term: AtomicCharges, graph: dict[str, Tensor], references: list[Reference]
) -> list[Fragments]:
    """Every structure of a batch with more than one molecule, no bonds without end, and at most MOST_ATOMS atoms.

    references  of the structures before, to which new molecules are added
    """
    vector, species = edge_vectors(graph), potential.lookup[graph[keys.ATOMIC_NUMBERS]]
    contacts, found = pair_columns(potential, graph), []
    for s, (system, _, first, last, first_edge, last_edge) in enumerate(systems_of(graph)):
        atoms, edges = slice(first, last), slice(first_edge, last_edge)
        ends, vectors = graph[keys.EDGE_INDEX][:, edges] - first, vector[edges]
        molecule, places = molecules_of(graph[keys.ATOMIC_NUMBERS][atoms], ends, vectors)
        if molecule.max() == 0 or places is None or last - first > MOST_ATOMS:
            continue
        other = torch.from_numpy(molecule)[ends[0]] != torch.from_numpy(molecule)[ends[1]]
        labels, numbers = graph[keys.REF_FORCES][atoms], graph[keys.ATOMIC_NUMBERS][atoms].numpy()
        motions, inside = motions_of(molecule, places, labels, numbers, references)
        n_atoms, n_elements, total = last - first, len(potential.elements), graph[keys.TOTAL_CHARGE][s]
        kind = torch.nn.functional.one_hot(species[atoms], n_elements).double()
        radius = term.radius.double()[species[atoms]]
        bond = bonded(vectors.norm(dim=1), radius[ends].sum(0))
        bound = segment_sum(bond[:, None] * kind[ends[1]], ends[0], n_atoms)
        second = segment_sum(bond[:, None] * bound[ends[1]], ends[0], n_atoms)
        around = kind[:, :, None] * torch.cat([bound, second], 1)[:, None, :]
        descriptors = torch.cat([kind, around.flatten(1)], 1)
        found.append(Fragments(
            species[atoms], descriptors - descriptors.mean(0), torch.full((n_atoms,), float(total) / n_atoms).double(),
            torch.einsum("kia,ija->kij", motions, matrix_slopes(system, term)),
            torch.einsum("kia,iam->km", motions, contacts[atoms]), inside,
            float(vectors.norm(dim=1)[other].min()) if other.any() else float("inf"),
            torch.einsum("kia,ia->k", motions, labels.nan_to_num()),
            torch.nn.functional.one_hot(torch.from_numpy(molecule).long()).T.double(), bool(total != 0),
            not bool((other & (bond > 0)).any()),
        ))  # fmt: skip
    return found


def molecules_of(numbers: Tensor, ends: Tensor, vectors: Tensor) -> tuple[np.ndarray, np.ndarray | None]:
    """Molecule of every atom [n], 0, 1, ..., and places [n, 3] Å of one image of each, None if bonds have no end, as in a framework.

    ends [2, n_edges], vectors [n_edges, 3] Å
    """
    radii = torch.tensor(covalent_radii)[numbers]
    chosen = vectors.norm(dim=1) < BOND * radii[ends].sum(0)
    bonds, steps, n = ends[:, chosen].numpy(), vectors[chosen].numpy(), len(numbers)
    _, molecule = connected_components(coo_matrix((np.ones(len(steps)), bonds), (n, n)), directed=False)
    places = np.full((n, 3), np.nan)
    places[np.unique(molecule, return_index=True)[1]] = 0.0
    for _ in range(n):
        new = np.isnan(places[bonds[1], 0]) & ~np.isnan(places[bonds[0], 0])
        if not new.any():
            break
        places[bonds[1, new]] = places[bonds[0, new]] + steps[new]
    ends_meet = len(steps) == 0 or np.abs(places[bonds[1]] - places[bonds[0]] - steps).max() < 1e-6
    return molecule, places if ends_meet else None


def motions_of(
    molecule: np.ndarray, places: np.ndarray, forces: Tensor, numbers: np.ndarray, references: list[Reference]
) -> Motions:
    """Translations and rotations of every molecule, and in small structures the motions inside.

    molecule [n], places [n, 3] Å as of `molecules_of`; a molecule with an atom without forces [n, 3] has none
    """
    n, rows, inside = len(molecule), [np.zeros((0, len(molecule), 3))], []
    for each in range(molecule.max() + 1):
        mine = np.flatnonzero(molecule == each)
        if not np.isfinite(forces[mine].numpy()).all():
            continue
        arms = places[mine] - places[mine].mean(0)
        rigid, others = rigid_and_other(arms)
        found = [rigid]
        inside += [-1] * len(rigid)
        if n <= MOST_INSIDE and len(others):
            reference, turn = reference_of(numbers[mine], arms, others, references)
            found.append(reference.inside @ turn)
            inside += range(reference.first, reference.first + len(others))
        rows.append(np.zeros((sum(map(len, found)), n, 3)))
        rows[-1][:, mine] = np.concatenate(found)
    return Motions(torch.from_numpy(np.concatenate(rows)), torch.tensor(inside, dtype=torch.int64))


def rigid_and_other(arms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal rigid motions [3, 5 or 6, m, 3] of atoms at arms [m, 3] Å from their centre, and all others, none on a line."""
    moves = [np.tile(axis, (len(arms), 1)) for axis in np.eye(3)] + [np.cross(axis, arms) for axis in np.eye(3)]
    _, sizes, basis = np.linalg.svd(np.stack(moves).reshape(6, -1))
    n_rigid, basis = int((sizes > 1e-3).sum()), basis.reshape(-1, *arms.shape)
    return basis[:n_rigid], basis[n_rigid:] if n_rigid == 6 else basis[:0]


def reference_of(
    numbers: np.ndarray, arms: np.ndarray, others: np.ndarray, references: list[Reference]
) -> tuple[Reference, np.ndarray]:
    """The reference that this molecule is a copy of, a new one if there is none, and the rotation [3, 3] from it, rows @ rotation."""
    for reference in references:
        if np.array_equal(numbers, reference.numbers):
            left, _, right = np.linalg.svd(reference.arms.T @ arms)
            turn = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
            if np.sqrt(((reference.arms @ turn - arms) ** 2).sum(1).mean()) < COPY:
                return reference, turn
    first = references[-1].first + len(references[-1].inside) if references else 0
    references.append(Reference(numbers, arms, others, first))
    return references[-1], np.eye(3)


def matrix_slopes(system: System, term: AtomicCharges) -> Tensor:
    """dA_ij/dr_i of the Coulomb matrix, [n, n, 3] eV/Å/e^2."""
    positions = system.positions.detach().clone().requires_grad_(True)
    width = torch.full((1,), term.width, dtype=torch.float64)
    operator = coulomb_operator(System(positions, system.cell, system.pbc), width, term.tolerance, False, True)
    columns = operator_matrix(operator, True, False).unbind(1)
    slopes = torch.stack([torch.autograd.grad(one.sum(), positions, retain_graph=True)[0] for one in columns], 1)
    return slopes * (1 - torch.eye(len(positions)))[:, :, None]


def best_fit(frames: list[Fragments], n_unknown: int) -> Tensor:
    """The unknown [n_unknown] e of the least sum of squares from TRIALS starts at random."""
    trials = []
    for trial in range(TRIALS):
        generator = torch.Generator().manual_seed(trial)
        start = PRIOR * torch.randn(n_unknown, generator=generator, dtype=torch.float64)
        trials.append(descended(frames, start))
    return min(trials, key=lambda trial: trial[1])[0]


def descended(frames: list[Fragments], unknown: Tensor, whole: list[Tensor] | None = None) -> tuple[Tensor, float]:
    """The unknown and its sum of squares after ITERATIONS of Levenberg and Marquardt's method.

    whole  charges e to which molecules are held, of every frame in which they are apart, [n_molecules]
    """
    contacts = torch.cat([frame.contacts for frame in frames])
    inside = torch.cat([frame.inside for frame in frames])
    noise = CONTACT**2 * contacts @ contacts.T + FREE**2 * ((inside[:, None] == inside) & (inside >= 0))
    polar = torch.cat([torch.full_like(frame.labels, POLAR / frame.nearest**3) for frame in frames])
    noise.diagonal().add_(torch.where(inside < 0, NOISE, INSIDE).square() + polar.square())
    white = torch.linalg.inv(torch.linalg.cholesky(noise))
    prior = torch.eye(len(unknown), dtype=torch.float64) / PRIOR

    def residuals(unknown: Tensor) -> tuple[Tensor, Tensor]:
        forces, slopes, rest, rest_slopes = [], [], [prior @ unknown], [prior]
        size = CHARGE * len(frames) ** 0.5
        held = iter(whole or [])
        for frame in frames:
            charges = frame.descriptors @ unknown + frame.shares
            potential = frame.coulomb @ charges  # [K, n]
            forces.append(-potential @ charges - frame.labels)
            slopes.append(-(potential + charges @ frame.coulomb) @ frame.descriptors)
            rest.append(charges / size)
            rest_slopes.append(frame.descriptors / size)
            if whole and frame.apart:
                rest.append((frame.molecules @ charges - next(held)) / WHOLE)
                rest_slopes.append(frame.molecules @ frame.descriptors / WHOLE)
        return torch.cat([white @ torch.cat(forces), *rest]), torch.cat([white @ torch.cat(slopes), *rest_slopes])

    left, slopes = residuals(unknown)
    damping = 1.0
    for _ in range(ITERATIONS):
        gram = slopes.T @ slopes
        gram.diagonal().mul_(1 + damping)
        step = unknown - torch.linalg.solve(gram, slopes.T @ left)
        new, new_slopes = residuals(step)
        better = bool(new.square().sum() < left.square().sum())
        damping *= 0.3 if better else 4.0
        if better:
            unknown, left, slopes = step, new, new_slopes
    return unknown, float(left.square().sum())


def signed(unknown: Tensor, frames: list[Fragments], elements: list[int]) -> Tensor:
    """The unknown with the sign that makes anions negative, if no structure has a total charge that says it."""
    anion = torch.tensor([FORMAL_CHARGE.get(chemical_symbols[z], 0.0) < 0 for z in elements])
    charge = sum(float((frame.descriptors @ unknown)[anion[frame.species]].sum()) for frame in frames)
    return -unknown if charge > 0 and not any(frame.charged for frame in frames) else unknown
