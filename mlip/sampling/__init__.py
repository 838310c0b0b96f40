"""Active sampling: which structures are worth a label, until the barriers of ion hops no longer change."""
