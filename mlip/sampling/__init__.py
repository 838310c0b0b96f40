"""Active learning: selection of structures to label until barriers have converged."""
