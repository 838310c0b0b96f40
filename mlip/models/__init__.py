"""The potential: features of the network, a sum of energy terms, one derivative."""
