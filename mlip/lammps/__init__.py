"""LAMMPS: `pair_style mlip`, built for an installed LAMMPS, and the input files that use it."""
