"""Training: losses, metrics, weight average, schedules, the Lightning module and the one function `train`."""
