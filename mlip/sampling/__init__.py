"""Active learning: selection of structures to label until the barriers of ion hops no longer change."""
