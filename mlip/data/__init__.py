"""From files of DFT results to batches of graphs."""
