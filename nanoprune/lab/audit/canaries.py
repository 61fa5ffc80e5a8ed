"""A bound on the epsilon of one training, from its canaries alone (`nanoprune/lab/data/canaries.py`).

The score of a canary is the log odds of its wrong label, which a model has no reason to prefer but that it was trained
on it. Its membership was decided by a fair coin, so that the prior odds of the bound are 1, whatever the shares are
(`nanoprune/lab/statistics/epsilon_bounds.py`). No shadow model takes part, and nothing is fitted. The bound is for
adding or removing one record.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.attack.shadow.lira import margin
from nanoprune.errors import DataError
from nanoprune.lab.audit.audit import DELTA
from nanoprune.lab.audit.shadows import outputs
from nanoprune.lab.data import Dataset, make_split
from nanoprune.lab.data.canaries import Canaries, kept_canaries
from nanoprune.lab.models.model import Model, check_records
from nanoprune.lab.statistics import auc_interval, epsilon_lower_bound, gaussian_lower_bound

FAIR = 0.5


def canaries_of(model: Model, dataset: Dataset) -> Canaries | None:
    """The canaries that the model was trained with; None without any. Raises DataError where they are not its own."""
    record = next((step["canaries"] for step in model.steps if "canaries" in step), None)
    if record is None:
        return None
    split = make_split(dataset, model.members, model.reference, model.nonmembers, model.seed)
    return kept_canaries(dataset, split, model.seed, record)


def audit_canaries(
    model: Model, dataset: Dataset, alpha: float = 0.05, delta: float | None = None, threads: int = 1
) -> dict[str, Any]:
    """{"canaries", "inserted", "alpha", "delta", "auc", "epsilon_lower_bound", "epsilon_with_delta", "claimed",
    "refuted"}: the bounds of the canaries, each of confidence 1 - alpha on its own.

    epsilon_with_delta: {"any", "gaussian"} at `delta`, for any training and for one whose trade-off curve is Gaussian;
    by default at the model's own delta, or DELTA. claimed: the model's epsilon at its own delta, where it was trained
    with DP-SGD; refuted: whether the bound for any training at that delta exceeds it. Raises DataError where the model
    has no canaries or the records are not its own, ArgumentError on numbers that cannot be used.
    """
    check_records(model, dataset)
    canaries = canaries_of(model, dataset)
    if canaries is None:
        raise DataError("the model was trained without canaries; train it with `train --canaries`")
    claimed = next((step["privacy"] for step in model.steps if isinstance(step.get("privacy"), dict)), None)
    delta = delta or (claimed or {}).get("delta") or DELTA
    scores = margin(outputs(model.net, dataset, canaries.rows, threads)[0], canaries.labels)
    found = bounds(scores, canaries.inserted, alpha, delta)
    if claimed is None or claimed.get("epsilon") is None:
        return found | {"claimed": None, "refuted": None}
    of = bounds(scores, canaries.inserted, alpha, claimed["delta"])["epsilon_with_delta"]["any"]
    promise = {"epsilon": claimed["epsilon"], "delta": claimed["delta"]}
    return found | {"claimed": promise, "refuted": bool(of > claimed["epsilon"])}


def bounds(scores: np.ndarray, inserted: np.ndarray, alpha: float, delta: float) -> dict[str, Any]:
    """The bounds of canaries with scores (M,), higher for those that the model seems to have seen; inserted (M,) bool.
    No bound, 0, where all coins fell alike."""
    sides = scores[inserted], scores[~inserted]
    there = bool(len(sides[0]) and len(sides[1]))
    with_delta = {
        "any": epsilon_lower_bound(*sides, alpha, delta, FAIR) if there else 0.0,
        "gaussian": gaussian_lower_bound(*sides, alpha, delta, FAIR) if there else 0.0,
    }
    return {
        "canaries": len(scores),
        "inserted": int(inserted.sum()),
        "alpha": alpha,
        "delta": delta,
        "auc": auc_interval(*sides, alpha) if there else None,
        "epsilon_lower_bound": epsilon_lower_bound(*sides, alpha, 0.0, FAIR) if there else 0.0,
        "epsilon_with_delta": with_delta,
    }
