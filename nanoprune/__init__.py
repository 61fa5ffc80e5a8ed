"""nanoprune: weight pruning as a defence against membership inference, on NumPy or CuPy, without a framework."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanoprune.lab.api import Audit, Classifier, Comparison, Dataset, audit, compare, load

__version__ = "0.1.0"
__all__ = ["Audit", "Classifier", "Comparison", "Dataset", "audit", "compare", "load"]


def __getattr__(name: str) -> object:
    """The Python interface, imported when it is first used: the core loads nothing of the laboratory."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("nanoprune.lab.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
