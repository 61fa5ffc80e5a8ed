"""Audits of the predictions of any model, and their comparison."""

from __future__ import annotations

import os
from typing import Any

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.api.inputs import plain
from nanoprune.lab.api.progress import progress_for, threads_for
from nanoprune.lab.api.results import Audit
from nanoprune.lab.audit import audit as run_audit
from nanoprune.lab.audit import read_predictions
from nanoprune.lab.audit.audit import DELTA
from nanoprune.lab.audit.predictions import Predictions, check_pair, predictions_of, seem_probabilities

SPLITS = ("random", "fixed")


def audit(
    logits: Any,
    labels: Any = None,
    member: Any = None,
    *,
    shadow: tuple[Any, Any, Any] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    split: str = "random",
    delta: float = DELTA,
    n_jobs: int | None = -1,
    verbose: bool | None = None,
) -> Audit:
    """Attack the predictions of a model, from any framework: what do they say of who was in its training data?

    logits: (n, classes), what the model puts out for n records; rows that are not negative and sum to 1 are taken for
    probabilities. labels: (n,) their true classes, 0 .. classes - 1. member: (n,) whether each was trained on. Or the
    path of a file (.npz, .h5 or .csv, docs/audit.md) in place of the three. At least 8 members and 8 non-members.
    shadow: the same three of a model of your own, trained alike, on which the attacks are fitted; else those on each
    half of the records are fitted on the other half. alpha: intervals have confidence 1 - alpha. seed: of the halves
    and the attack network. split: "fixed" where members were not drawn by chance, as of an official training set; there
    are no bounds on epsilon then. delta: of the bounds on (epsilon, delta). n_jobs: processes at most, -1 for one a
    processor; the results do not depend on it. verbose: show progress; by default in notebooks.
    Raises ArgumentError or DataError, in one line, on arrays, a file or numbers that cannot be used.
    """
    if split not in SPLITS:
        raise ArgumentError(f"split must be {' or '.join(SPLITS)}, got {split!r}")
    if isinstance(logits, (str, os.PathLike)):
        if labels is not None or member is not None or shadow is not None:
            raise ArgumentError("labels, member and shadow are in the file; leave them out, or give arrays")
        target, fitted_on = read_predictions(logits)
    else:
        target, fitted_on = from_arrays(logits, labels, member, shadow)
    threads = threads_for(n_jobs)
    with progress_for(verbose) as progress:
        told = (progress.start, progress.advance)
        return Audit(*run_audit(target, fitted_on, alpha, seed, threads, *told, split == "random", delta), target)


def from_arrays(
    logits: Any, labels: Any, member: Any, shadow: tuple[Any, Any, Any] | None
) -> tuple[Predictions, Predictions | None]:
    """The target's predictions, and the shadow's where there are some, checked. Raises ArgumentError."""
    if shadow is not None and (not isinstance(shadow, tuple) or len(shadow) != 3):
        raise ArgumentError(f"shadow must be three arrays (logits, labels, member), got {type(shadow).__name__}")
    try:
        target = one_model("", logits, labels, member)
        fitted_on = None if shadow is None else one_model("shadow ", *shadow)
        check_pair(target, fitted_on, "audit")
    except DataError as error:
        raise ArgumentError(str(error).replace("target_", "")) from error
    return target, fitted_on


def one_model(prefix: str, logits: Any, labels: Any, member: Any) -> Predictions:
    """The predictions of one model from its three arrays."""
    given = {"logits": logits, "labels": labels, "member": member}
    missing = [name for name, values in given.items() if values is None]
    if missing:
        raise ArgumentError(f"{prefix}{missing[0]} is missing; give logits (n, classes), labels (n,) and member (n,)")
    values, *columns = (plain(array, prefix + name) for name, array in given.items())
    kind = "probs" if values.ndim == 2 and values.dtype.kind in "iuf" and seem_probabilities(values) else "logits"
    y, inside = (array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for array in columns)
    arrays = {f"target_{kind}": values, "target_labels": y, "target_member": inside}
    return predictions_of(arrays, f"audit: {prefix}".rstrip(" :"))
