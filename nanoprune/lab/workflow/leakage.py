"""The change of leakage by pruning: paired quick audits of the network before and after, on members and non-members."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.lab.audit import Comparison, compare_predictions
from nanoprune.lab.data import Dataset, make_split
from nanoprune.lab.models.model import Model
from nanoprune.lab.workflow.predictions import scored_predictions

FEWEST = 8  # members, and others, that can be divided in halves on which attacks are fitted


def leakage_change(
    before: Model, after: Model, dataset: Dataset, threads: int = 1, alpha: float = 0.05
) -> Comparison | None:
    """A `Comparison` of two networks with the same members, by the threshold attacks alone, on members and as many
    others; None where there are fewer than FEWEST records, or groups, of either. No attack is fitted on a record that
    it is scored on."""
    split = make_split(dataset, after.members, after.reference, after.nonmembers, after.seed)
    count = len if dataset.groups is None else lambda rows: len(np.unique(dataset.groups[rows]))
    if min(count(split.members), count(split.nonmembers)) < FEWEST:
        return None
    named = {"before": before, "after": after}
    models = {name: (scored_predictions(model, dataset, threads), None) for name, model in named.items()}
    return compare_predictions(models, alpha, threads=threads, quick=True, random_split=after.members is not None)


def in_brief(leaks: Comparison) -> dict[str, Any]:
    """{"before", "after", "change"}: the accuracies, and all changes with their paired intervals; no single records."""
    (before, after), (change,) = leaks.audits.values(), leaks.differences.values()
    return {"before": before["strongest"]["accuracy"], "after": after["strongest"]["accuracy"], "change": change}
