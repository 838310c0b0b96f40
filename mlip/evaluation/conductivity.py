"""Nernst-Einstein conductivity, and the error of a diffusivity from the number of hops."""

import math

from scipy.constants import elementary_charge

from mlip import units
from mlip.errors import InputError

CM2_PER_S = 1e-4  # 1 Å^2/ps in cm^2/s
E2_PER_KB = elementary_charge / units.BOLTZMANN  # e^2 / k_B = 1.8592e-15 C^2 K / J
PER_CM3 = 1e24  # 1 Å^-3 in cm^-3


def nernst_einstein(diffusivity: float, density: float, charge: float, temperature_K: float) -> float:
    """Conductivity in S/cm of ions that move independently:  sigma = (N/V) z^2 e^2 D / (k_B T).

    diffusivity  cm^2/s, the tracer's; with the collective one it is the true conductivity
    density      N/V, Å^-3
    charge       z, e: the formal charge of the ion, always given, never guessed from the element
    """
    check_charge(charge)
    if not temperature_K > 0:
        raise InputError(f"temperature_K must be positive, got {temperature_K}")
    return E2_PER_KB * charge**2 * density * PER_CM3 * diffusivity / temperature_K


def check_charge(charge: float) -> None:
    """ValueError unless it is a finite number other than zero."""
    if charge is None or not math.isfinite(charge) or charge == 0:
        raise InputError(f"the charge of the mobile ion must be given in e (1 for Li+, -1 for F-), got {charge}")


def effective_hops(msd_max: float, n_ions: int, hop_length_A: float) -> float:
    """N_eff = N max MSD / a^2: hops that led somewhere.  msd_max Å^2, hop_length_A a in Å"""
    return n_ions * msd_max / hop_length_A**2


def hop_count_error(n_effective: float) -> float:
    """Relative standard deviation of D,  3.43 / sqrt(N_eff) + 0.04  (He, Zhu, Mo, npj Comput. Mater. 4, 18, 2018)."""
    return 3.43 / math.sqrt(n_effective) + 0.04 if n_effective > 0 else math.inf


def upper_limit(n_ions: int, duration_ps: float, hop_length_A: float) -> float:
    """D < 3 a^2 / (6 N t) in Å^2/ps, 95 % sure, where N ions did not hop once in the time t: rate < 3 / (N t)."""
    return 3 * hop_length_A**2 / (6 * n_ions * duration_ps)
