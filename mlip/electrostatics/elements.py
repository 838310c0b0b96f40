"""Numbers from the periodic table: where charges start from."""

from typing import Final

# Pauling scale (CRC Handbook); elements without a value there take UNKNOWN
PAULING: Final[dict[str, float]] = {
    "H": 2.2, "Li": 0.98, "Be": 1.57, "B": 2.04, "C": 2.55, "N": 3.04, "O": 3.44, "F": 3.98, "Na": 0.93, "Mg": 1.31,
    "Al": 1.61, "Si": 1.9, "P": 2.19, "S": 2.58, "Cl": 3.16, "K": 0.82, "Ca": 1.0, "Sc": 1.36, "Ti": 1.54, "V":
    1.63, "Cr": 1.66, "Mn": 1.55, "Fe": 1.83, "Co": 1.88, "Ni": 1.91, "Cu": 1.9, "Zn": 1.65, "Ga": 1.81, "Ge": 2.01,
    "As": 2.18, "Se": 2.55, "Br": 2.96, "Kr": 3.0, "Rb": 0.82, "Sr": 0.95, "Y": 1.22, "Zr": 1.33, "Nb": 1.6, "Mo":
    2.16, "Tc": 1.9, "Ru": 2.2, "Rh": 2.28, "Pd": 2.2, "Ag": 1.93, "Cd": 1.69, "In": 1.78, "Sn": 1.96, "Sb": 2.05,
    "Te": 2.1, "I": 2.66, "Xe": 2.6, "Cs": 0.79, "Ba": 0.89, "La": 1.1, "Ce": 1.12, "Pr": 1.13, "Nd": 1.14, "Pm":
    1.13, "Sm": 1.17, "Eu": 1.2, "Gd": 1.2, "Tb": 1.1, "Dy": 1.22, "Ho": 1.23, "Er": 1.24, "Tm": 1.25, "Yb": 1.1,
    "Lu": 1.27, "Hf": 1.3, "Ta": 1.5, "W": 2.36, "Re": 1.9, "Os": 2.2, "Ir": 2.2, "Pt": 2.28, "Au": 2.54, "Hg": 2.0,
    "Tl": 1.62, "Pb": 2.33, "Bi": 2.02, "Po": 2.0, "At": 2.2, "Rn": 2.2, "Fr": 0.7, "Ra": 0.9, "Ac": 1.1, "Th": 1.3,
    "Pa": 1.5, "U": 1.38, "Np": 1.36, "Pu": 1.28, "Am": 1.3, "Cm": 1.3,
}  # fmt: skip
UNKNOWN: Final[float] = 2.0

# e, the usual oxidation state in solid electrolytes, electrodes and their neighbours
FORMAL_CHARGE: Final[dict[str, float]] = {
    "H": 1.0, "Li": 1.0, "Na": 1.0, "K": 1.0, "Rb": 1.0, "Cs": 1.0, "Ag": 1.0, "Cu": 2.0, "Be": 2.0, "Mg": 2.0,
    "Ca": 2.0, "Sr": 2.0, "Ba": 2.0, "Zn": 2.0, "Cd": 2.0, "Pb": 2.0, "Ni": 2.0, "Mn": 2.0, "Fe": 3.0, "Co": 3.0,
    "Cr": 3.0, "B": 3.0, "Al": 3.0, "Ga": 3.0, "In": 3.0, "Sc": 3.0, "Y": 3.0, "La": 3.0, "Ce": 3.0, "Pr": 3.0,
    "Nd": 3.0, "Sm": 3.0, "Eu": 3.0, "Gd": 3.0, "Tb": 3.0, "Dy": 3.0, "Ho": 3.0, "Er": 3.0, "Tm": 3.0, "Yb": 3.0,
    "Lu": 3.0, "Bi": 3.0, "C": 4.0, "Si": 4.0, "Ge": 4.0, "Sn": 4.0, "Ti": 4.0, "Zr": 4.0, "Hf": 4.0, "P": 5.0,
    "As": 5.0, "Sb": 5.0, "V": 5.0, "Nb": 5.0, "Ta": 5.0, "Mo": 6.0, "W": 6.0, "N": -3.0, "O": -2.0, "S": -2.0,
    "Se": -2.0, "Te": -2.0, "F": -1.0, "Cl": -1.0, "Br": -1.0, "I": -1.0,
}  # fmt: skip


def absolute_electronegativity(symbol: str) -> float:
    """Mulliken's chi in V from Pauling's scale, chi_P = 0.336 (chi_M - 0.615)."""
    return PAULING.get(symbol, UNKNOWN) / 0.336 + 0.615
