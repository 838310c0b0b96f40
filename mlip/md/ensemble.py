"""Ensembles: ASE's integrators, with the right number of degrees of freedom and a state that can be saved.

Momenta sum to zero and stay so (Langevin excepted), which leaves 3 N - 3 degrees of freedom. ASE's chains count 3 N:
10 atoms would be 11 % too hot. Each class has `start(atoms, timestep, rng) -> dynamics`, `conserved(dynamics)` in eV,
`removed` degrees of freedom, and `state`, the attributes that make a restart the same trajectory.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi as AseBussi
from ase.md.langevin import Langevin as AseLangevin
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet

from mlip.errors import InputError

CHAIN = ("_q", "_p", "_thermostat._eta", "_thermostat._p_eta")
BAROSTAT = ("_barostat._xi", "_barostat._p_xi")
GPA = units.GPa  # eV/Å^3


@dataclass(frozen=True)
class NVE:
    """Velocity Verlet at constant energy; temperature_K is that of the first velocities."""

    temperature_K: float
    removed: ClassVar[int] = 3
    state: ClassVar[tuple] = ()

    def start(self, atoms: Atoms, timestep: float, rng) -> VelocityVerlet:
        return VelocityVerlet(atoms, timestep)

    def conserved(self, dynamics) -> float:
        return dynamics.atoms.get_total_energy()


@dataclass(frozen=True)
class NoseHoover:
    """NVT by a Nosé-Hoover chain: deterministic, keeps the dynamics. damping_fs about 100 steps."""

    temperature_K: float
    damping_fs: float = 100.0
    removed: ClassVar[int] = 3
    state: ClassVar[tuple] = CHAIN

    def start(self, atoms: Atoms, timestep: float, rng) -> NoseHooverChainNVT:
        dynamics = NoseHooverChainNVT(
            atoms, timestep, temperature_K=self.temperature_K, tdamp=self.damping_fs * units.fs
        )
        return without_centre_of_mass(dynamics)

    def conserved(self, dynamics) -> float:
        return dynamics.get_conserved_energy()


@dataclass(frozen=True)
class Bussi:
    """NVT by stochastic velocity rescaling: heats and cools fast, little effect on diffusion. J. Chem. Phys. 126, 014101."""

    temperature_K: float
    damping_fs: float = 100.0
    removed: ClassVar[int] = 3
    state: ClassVar[tuple] = ("transferred_energy",)

    def start(self, atoms: Atoms, timestep: float, rng) -> AseBussi:
        dynamics = AseBussi(atoms, timestep, temperature_K=self.temperature_K, taut=self.damping_fs * units.fs, rng=rng)
        dynamics.ndof -= self.removed
        dynamics.target_kinetic_energy = 0.5 * dynamics.temp * dynamics.ndof
        return dynamics

    def conserved(self, dynamics) -> float:
        return dynamics.atoms.get_total_energy() - dynamics.transferred_energy


@dataclass(frozen=True)
class Langevin:
    """NVT with friction on each atom: robust, for melting and equilibration only, because it slows diffusion."""

    temperature_K: float
    damping_fs: float = 100.0
    removed: ClassVar[int] = 0
    state: ClassVar[tuple] = ()

    def start(self, atoms: Atoms, timestep: float, rng) -> AseLangevin:
        friction = 1 / (self.damping_fs * units.fs)
        return AseLangevin(atoms, timestep, temperature_K=self.temperature_K, friction=friction, fixcm=False, rng=rng)

    def conserved(self, dynamics) -> float:
        return np.nan


@dataclass(frozen=True)
class NPT:
    """NPT by Martyna, Tobias and Klein: the whole cell breathes, or only its volume where isotropic (for liquids)."""

    temperature_K: float
    pressure_GPa: float = 0.0
    damping_fs: float = 100.0
    pressure_damping_fs: float = 1000.0
    isotropic: bool = False
    removed: ClassVar[int] = 3

    @property
    def state(self) -> tuple:
        return (*CHAIN, *BAROSTAT, *(("_eps", "_p_eps", "_cell0", "_volume0") if self.isotropic else ("_h", "_p_g")))

    def start(self, atoms: Atoms, timestep: float, rng) -> MTKNPT | IsotropicMTKNPT:
        if not atoms.pbc.all():
            raise InputError(f"constant pressure needs three periodic directions, got pbc {atoms.pbc.tolist()}")
        dynamics = (IsotropicMTKNPT if self.isotropic else MTKNPT)(
            atoms,
            timestep,
            temperature_K=self.temperature_K,
            pressure_au=self.pressure_GPa * GPA,
            tdamp=self.damping_fs * units.fs,
            pdamp=self.pressure_damping_fs * units.fs,
        )
        dynamics._num_atoms_global -= 1
        return without_centre_of_mass(dynamics)

    def conserved(self, dynamics) -> float:
        return dynamics.get_conserved_energy()


def without_centre_of_mass(dynamics):
    """A chain that drives 3 N - 3 degrees of freedom; everything in it depends on N alone."""
    thermostat = dynamics._thermostat
    n_atoms = thermostat._num_atoms_global
    thermostat._num_atoms_global = n_atoms - 1
    thermostat._Q[0] *= (n_atoms - 1) / n_atoms
    return dynamics


def temperature(atoms: Atoms, removed: int) -> float:
    """2 E_kin / (k_B (3 N - removed)), K."""
    return 2 * atoms.get_kinetic_energy() / (units.kB * (3 * len(atoms) - removed))


def maxwell(atoms: Atoms, temperature_K: float, removed: int, rng: np.random.Generator) -> np.ndarray:
    """Random momenta without total momentum and with exactly this temperature, [n_atoms, 3] in ASE's unit."""
    masses = atoms.get_masses()[:, None]
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(masses * units.kB * temperature_K)
    momenta -= masses / masses.sum() * momenta.sum(0)
    kinetic = 0.5 * (momenta**2 / masses).sum()
    target = 0.5 * (3 * len(atoms) - removed) * units.kB * temperature_K
    return momenta * np.sqrt(target / kinetic)


def get_state(dynamics, names) -> dict[str, np.ndarray]:
    """Copies of the attributes (dotted) that the next step depends on."""
    return {name: np.array(follow(dynamics, name)) for name in names}


def set_state(dynamics, values: dict[str, np.ndarray]) -> None:
    """Puts them back."""
    for name, value in values.items():
        *path, last = name.split(".")
        setattr(follow(dynamics, ".".join(path)), last, value.copy() if value.ndim else float(value))


def follow(thing, path: str):
    """thing.a.b of the path "a.b"."""
    for name in filter(None, path.split(".")):
        thing = getattr(thing, name)
    return thing
