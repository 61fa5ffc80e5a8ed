"""nanoprune: weight pruning as a defence against membership inference, on NumPy or CuPy, without a framework."""

__version__ = "0.1.0"
