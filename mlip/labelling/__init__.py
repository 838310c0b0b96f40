"""Labelling of structures by a calculator, by DFT, or by files from elsewhere."""
