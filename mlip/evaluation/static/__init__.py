"""Properties of relaxed crystals, one class and one file each."""
