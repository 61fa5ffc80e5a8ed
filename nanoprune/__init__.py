"""nanoprune: weight pruning as a defence against membership inference, by hand, on NumPy or CuPy."""

__version__ = "0.1.0"
