"""Comparison of recorded settings: may a folder begun with these be continued with those?"""


def first_difference(one, other, key: str = "") -> str | None:
    """Dotted key of the first value in which two configs differ; None if they are equal."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return None if one == other else key
    for name in dict.fromkeys([*one, *other]):
        below = f"{key}.{name}" if key else str(name)
        if name not in one or name not in other:
            return below
        different = first_difference(one[name], other[name], below)
        if different is not None:
            return different
    return None
