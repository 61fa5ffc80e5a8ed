"""The results of the Python interface: small objects with fields, which can save and display themselves."""

from __future__ import annotations

import copy
import dataclasses
import os
import pathlib
from abc import ABC, abstractmethod
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.api.arguments import expect
from nanoprune.lab.audit import Audited
from nanoprune.lab.storage.files import check_output, write_json
from nanoprune.lab.storage.own_files import occupied
from nanoprune.lab.storage.text import printable

SUFFIXES = (".html", ".json")


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Result(ABC):
    """Figures as plain data, as docs/formats.md describes them, and ways to keep and to show them."""

    results: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """A copy of all figures, plain data."""
        return copy.deepcopy(self.results)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a page (.html, one file that needs no other) or the figures (.json); whole or not at all.

        Raises ArgumentError on another suffix, or where something already exists and not `overwrite`; DataError where
        it cannot be written.
        """
        suffix = pathlib.Path(expect("path", path, "a path")).suffix.lower()
        if suffix not in SUFFIXES:
            raise ArgumentError(
                f"path must end with {' or '.join(SUFFIXES)}, got {printable(os.path.basename(path))!r}"
            )
        check_free(path, overwrite)
        if suffix == ".html":
            self.write_page(path)
        else:
            write_json(self.results, path)

    @abstractmethod
    def write_page(self, path: str | os.PathLike[str]) -> None:
        """Write the page."""

    @abstractmethod
    def _repr_html_(self) -> str:
        """What a notebook shows."""


def check_free(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises ArgumentError where something is at `path` and not `overwrite`; else as `check_output`."""
    check_output(expect("path", path, "a path"))
    if not overwrite and occupied(path):
        raise ArgumentError(f"{printable(path)} already exists; overwrite=True replaces it")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Audit(Result):
    """What attacks found out about the members of a model.

    results: the figures of docs/formats.md. curves: for each attack the arrays fpr, tpr, low and high of its ROC.
    audited: what `compare` takes; None where shadow models were used.
    """

    curves: dict[str, dict[str, Any]]
    audited: Audited | None = None

    @property
    def degree(self) -> str:
        """How much the model leaks: "no leak detected", "slight", "clear" or "severe"; "void" where a check failed."""
        return self.results["verdict"]["degree"]

    @property
    def verdict(self) -> list[str]:
        """The verdict in sentences: degree, what an attacker gains, what is not known, what can be done."""
        return list(self.results["verdict"]["sentences"])

    @property
    def strongest(self) -> str:
        """The name of the strongest attack, chosen on the attacker's own records."""
        return self.results["strongest"]["attack"]

    @property
    def accuracy(self) -> Interval:
        """The balanced accuracy of the strongest attack; guessing has 0.5."""
        return interval(self.results["strongest"]["accuracy"])

    @property
    def auc(self) -> Interval:
        """The area under its ROC; guessing has 0.5."""
        return interval(self.results["strongest"]["auc"])

    @property
    def epsilon(self) -> float | None:
        """The largest lower bound on epsilon, at delta 0; None where membership was not drawn at random."""
        bounds = [attack["epsilon_lower_bound"] for attack in self.results["attacks"].values()]
        return max((bound for bound in bounds if bound is not None), default=None)

    @property
    def train_accuracy(self) -> float:
        """The model's accuracy on the members."""
        return self.results["train_accuracy"]

    @property
    def test_accuracy(self) -> float:
        """Its accuracy on the non-members."""
        return self.results["test_accuracy"]

    @property
    def members(self) -> int:
        """How many members there are."""
        return self.results["members"]

    @property
    def nonmembers(self) -> int:
        """How many non-members there are."""
        return self.results["nonmembers"]

    def write_page(self, path: str | os.PathLike[str]) -> None:
        from nanoprune.lab.report import write_audit_page

        write_audit_page(self.results, self.curves, path)

    def _repr_html_(self) -> str:
        from nanoprune.lab.report.notebook import audit_fragment

        return audit_fragment(self.results, self.curves)

    def __repr__(self) -> str:
        return (
            f"Audit({self.degree!r}, accuracy={self.accuracy}, strongest={self.strongest!r}, "
            f"members={self.members:,}, nonmembers={self.nonmembers:,})"
        )

    def __str__(self) -> str:
        from nanoprune.lab.report import audit_verdict

        return "\n\n".join([*self.verdict, *audit_verdict(self.results)])


@dataclasses.dataclass(frozen=True)
class Difference:
    """The figures of a model less those of the first one, with intervals that are paired record by record."""

    accuracy: Interval  # of the strongest attack
    auc: Interval  # of its ROC
    tpr_at_fpr: dict[float, Interval | None]  # None where there are too few non-members
    train_accuracy: float
    test_accuracy: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """What several models leak, on the same records.

    results: the figures of docs/formats.md. curves: for each model the ROC of the strongest attack on it.
    """

    curves: dict[str, dict[str, Any]]

    @property
    def first(self) -> str:
        """The model that the others are compared with."""
        return self.results["first"]

    @property
    def differences(self) -> dict[str, Difference]:
        """Each of the other models beside the first."""
        return {name: difference(found) for name, found in self.results["differences"].items()}

    @property
    def verdict(self) -> list[str]:
        """The differences in words, one paragraph a model."""
        from nanoprune.lab.report import compare_verdict

        return compare_verdict(self.results)

    def write_page(self, path: str | os.PathLike[str]) -> None:
        from nanoprune.lab.report import write_comparison_page

        write_comparison_page(self.results, self.curves, path)

    def _repr_html_(self) -> str:
        from nanoprune.lab.report.notebook import comparison_fragment

        return comparison_fragment(self.results, self.curves)

    def __repr__(self) -> str:
        found = (f"{name}: accuracy {of.accuracy}" for name, of in self.differences.items())
        return f"Comparison(less {self.first}: {'; '.join(found)})"

    def __str__(self) -> str:
        return "\n\n".join(self.verdict)


def difference(found: dict[str, Any]) -> Difference:
    """One model's differences as an object."""
    rates = {float(rate): of and interval(of) for rate, of in found["tpr_at_fpr"].items()}
    accuracies = (found["train_accuracy"], found["test_accuracy"])
    return Difference(interval(found["accuracy"]), interval(found["auc"]), rates, *accuracies)


def interval(of: dict[str, float]) -> Interval:
    """{"value", "low", "high"} as an object."""
    return Interval(of["value"], of["low"], of["high"])
