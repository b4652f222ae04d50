"""Generators of data with gold alignments (NumPy only), and loaders for real corpora."""
