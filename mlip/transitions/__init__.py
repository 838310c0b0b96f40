"""Ion hops in a trajectory, minimum-energy paths and saddles between sites."""
