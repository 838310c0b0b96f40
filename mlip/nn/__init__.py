"""Maths on tensors: sums over segments, radial bases, functions on the sphere."""
