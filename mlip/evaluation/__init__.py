"""From a potential or a trajectory to numbers with intervals, figures and one page."""
