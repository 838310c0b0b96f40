"""Labelling: structures become labelled structures, by a calculator, by DFT, or by files that come back from elsewhere."""
