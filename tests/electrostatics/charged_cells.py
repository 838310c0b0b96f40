"""Small systems for the electrostatics tests, and strain and finite differences of a function of (positions, cell)."""

import torch


def random_cell(n=8, seed=0, size=5.0):
    """Triclinic cell with n atoms no closer than 1.2 Å and neutral-free charges: positions, cell, charges, widths."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    cell = size * torch.eye(3, dtype=torch.float64) + 0.2 * size * (rand(3, 3) - 0.5)
    positions = torch.zeros(0, 3, dtype=torch.float64)
    while len(positions) < n:
        new = rand(1, 3)
        difference = new - positions @ torch.linalg.inv(cell)
        difference = (difference - difference.round()) @ cell
        if len(positions) == 0 or difference.norm(dim=1).min() > 1.2:
            positions = torch.cat([positions, new @ cell])
    return positions, cell, rand(n) * 2 - 0.8, 0.4 + 0.7 * rand(n)


def strained(positions, cell, strain):
    """positions and cell after (1 + strain), rows as vectors."""
    deformation = torch.eye(3, dtype=torch.float64) + strain
    return positions @ deformation.T, cell @ deformation.T


def derivatives(energy, positions, cell):
    """Gradient over positions [n, 3] and over strain [3, 3] of energy(positions, cell)."""
    positions = positions.detach().requires_grad_(True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(energy(*strained(positions, cell, strain)), (positions, strain))


def differences(energy, positions, cell, step=1e-4):
    """The same by central differences (fourth order)."""

    def slope(f):
        return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)

    gradient, stress = torch.zeros_like(positions), torch.zeros(3, 3, dtype=torch.float64)
    for i in range(len(positions)):
        for a in range(3):
            unit = torch.zeros_like(positions)
            unit[i, a] = 1.0
            gradient[i, a] = slope(lambda h, unit=unit: energy(positions + h * unit, cell))
    for a in range(3):
        for b in range(3):
            unit = torch.zeros(3, 3, dtype=torch.float64)
            unit[a, b] = 1.0
            stress[a, b] = slope(lambda h, unit=unit: energy(*strained(positions, cell, h * unit)))
    return gradient, stress
