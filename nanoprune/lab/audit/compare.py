"""Comparison of audits of several models on the same records.

The first model is what the others are compared with. Each model's strongest attack is chosen on the attacker's records,
as in an audit of its own, so that no choice rests on what is compared; the differences are paired record by record, or
group by group (`nanoprune/lab/statistics/paired.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit import measure
from nanoprune.lab.audit.attack_choice import Chosen
from nanoprune.lab.audit.audit import Audited, audit_predictions
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.statistics import accuracy_difference, auc_difference, tpr_difference
from nanoprune.lab.statistics.proportion import check_alpha


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """What several models leak, on the same records.

    audits: the results of each model's audit, by name, the first being the one that the others are compared with.
    differences: for each of the others, its figures less the first one's: {"accuracy": I, "auc": I, "tpr_at_fpr":
    {RATE: I or None}, "train_accuracy", "test_accuracy"}. Each kind of interval holds at confidence 1 - alpha for all
    models together. curves: the ROC of each one's strongest attack, with its band.
    """

    alpha: float
    audits: dict[str, dict[str, Any]]
    differences: dict[str, dict[str, Any]]
    curves: dict[str, dict[str, np.ndarray]]

    @property
    def first(self) -> str:
        """The model that the others are compared with."""
        return next(iter(self.audits))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as docs/formats.md describes it."""
        return {"alpha": self.alpha, "first": self.first, "differences": self.differences, "audits": self.audits}


def compare(audited: Mapping[str, Audited], alpha: float = 0.05) -> Comparison:
    """Compare audits of the same records, by name. Raises ArgumentError on fewer than two, or an alpha outside of
    (0, 1); DataError, naming the model and what differs, where the records are not the same."""
    check_alpha(alpha)
    if len(audited) < 2:
        raise ArgumentError(f"audits must be at least two to be compared, got {len(audited)}")
    (first, base), *others = audited.items()
    each, differences = alpha / len(others), {}
    for name, of in others:
        check_same_records(base.target, of.target, first, name)
        if (base.results["fitted_on"], base.results["seed"]) != (of.results["fitted_on"], of.results["seed"]):
            raise DataError(
                f"{name}: attacks fitted on {of.results['fitted_on']} (seed {of.results['seed']}), those of {first} on "
                f"{base.results['fitted_on']} (seed {base.results['seed']}); fit both alike"
            )
        accuracies = {key: of.results[key] - base.results[key] for key in ("train_accuracy", "test_accuracy")}
        differences[name] = paired(base.chosen, of.chosen, base.target.units.member, each) | accuracies
    curves = {}
    for name, of in audited.items():
        member, scores = of.target.units.member, of.chosen.scores
        curves[name] = measure.roc_band(scores[member], scores[~member], alpha)
    return Comparison(alpha, {name: of.results for name, of in audited.items()}, differences, curves)


def compare_predictions(
    models: Mapping[str, tuple[Predictions, Predictions | None]],
    alpha: float = 0.05,
    start: Callable[[str, int | None], None] = lambda stage, total: None,
    **options: Any,
) -> Comparison:
    """Audit the predictions (target, shadow) of each model, by name, and compare them; options: of `audit_predictions`.

    Raises what `compare` raises, before anything is attacked.
    """
    (first, (base, _)), *others = models.items()
    for name, (target, _) in others:
        check_same_records(base, target, first, name)
    with_shadow = {shadow is not None for _, shadow in models.values()}
    if len(with_shadow) > 1:
        raise DataError("shadow: some files have shadow predictions and some have none; give all of them some, or none")
    audited = {}
    for name, (target, shadow) in models.items():

        def start_of(stage: str, total: int | None, name: str = name) -> None:
            start(f"{name}: {stage}", total)

        audited[name] = audit_predictions(target, shadow, alpha, start=start_of, **options)
    return compare(audited, alpha)


def check_same_records(base: Predictions, other: Predictions, first: str, name: str) -> None:
    """DataError, naming both and what differs, unless labels, membership and groups of the records are the same."""
    same = "; compare predictions of the same records in the same order"
    if len(base.y) != len(other.y):
        raise DataError(f"{name}: has {len(other.y):,} records, {first} has {len(base.y):,}{same}")
    if base.units.grouped != other.units.grouped:
        with_groups, without = (first, name) if base.units.grouped else (name, first)
        raise DataError(f"{name}: {with_groups} has groups, {without} has none; give both the same groups, or neither")
    sides = (
        ("label", base.y, other.y),
        ("member", base.member, other.member),
        ("group", base.units.of, other.units.of),
    )
    for what, a, b in sides:
        rows = np.flatnonzero(a != b)
        if len(rows):
            raise DataError(
                f"{name}: {what} differs from {first} in {len(rows):,} of {len(a):,} records, first in row {rows[0]} "
                f"({int(b[rows[0]])}, there {int(a[rows[0]])}){same}"
            )


def paired(base: Chosen, other: Chosen, member: np.ndarray, alpha: float) -> dict[str, Any]:
    """What the strongest attack on one model finds, less what that on the first finds: {"accuracy": I, "auc": I,
    "tpr_at_fpr": {RATE: I or None}}, each interval of confidence 1 - alpha."""
    scores = base.scores, other.scores
    return {
        "accuracy": accuracy_difference(base.said, other.said, member, alpha, (base.refitted, other.refitted)),
        "auc": auc_difference(*scores, member, alpha),
        "tpr_at_fpr": {f"{rate:g}": tpr_difference(*scores, member, rate, alpha) for rate in measure.RATES},
    }
