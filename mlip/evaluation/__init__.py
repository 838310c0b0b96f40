"""Evaluation of potentials: numbers with intervals, figures and one page."""
