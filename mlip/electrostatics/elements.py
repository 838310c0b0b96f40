"""Numbers from the periodic table: where charges start from."""

from typing import Final

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
