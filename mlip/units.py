"""Constants. Inside: eV, Å, e, fs, K. Everything else is converted at the border."""

from typing import Final

BOLTZMANN: Final[float] = 8.617333262145179e-5  # eV/K
COULOMB: Final[float] = 14.3996454784255  # e^2 / (4 pi eps_0), eV Å
BOHR: Final[float] = 0.529177210903  # Å
HARTREE: Final[float] = 27.211386245988  # eV
EV_PER_A3_IN_GPA: Final[float] = 160.21766339999996  # 1 eV/Å^3 in GPa
KBAR: Final[float] = 0.1 / 160.21766339999996  # 1 kbar in eV/Å^3
ATOMIC_MASS: Final[float] = 103.642696  # 1 u in eV fs^2 / Å^2
