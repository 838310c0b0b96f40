"""Classical potentials of ions, fitted to the same data as the networks: baselines."""
