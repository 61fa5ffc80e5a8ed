"""The Python interface: what `import nanoprune` gives. docs/python.md shows it."""

from nanoprune.lab.api.audits import audit, compare
from nanoprune.lab.api.classifier import Classifier
from nanoprune.lab.api.data import Dataset, load
from nanoprune.lab.api.results import Audit, Comparison

__all__ = ["Audit", "Classifier", "Comparison", "Dataset", "audit", "compare", "load"]
