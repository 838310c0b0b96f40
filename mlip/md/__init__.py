"""Molecular dynamics: any ASE calculator, restart after a kill, a guard."""
