"""The audit of predictions: attacks, statistics and validity checks put together."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import scipy

import nanoprune
from nanoprune.lab.audit import measure
from nanoprune.lab.audit.attacks import Attacked, folds, run_attacks
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.audit.validity import validity_checks
from nanoprune.lab.statistics.proportion import check_alpha
from nanoprune.lab.storage.files import atomic_path

UNSEEN = (
    "predictions alone do not show how they were made: see to it that the model was in test mode (no dropout, "
    "statistics of batches frozen), and, of a defence, that it has the sparsity asked for and its adversary learned "
    "something"
)


def audit(
    target: Predictions,
    shadow: Predictions | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    threads: int = 1,
    start: Callable[[str, int], None] = lambda stage, total: None,
    advance: Callable[[int], None] = lambda steps: None,
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Attack the target's predictions and say what is known. Returns the results, and for each attack its ROC.

    The results are plain data, as docs/formats.md describes them; intervals have confidence 1 - alpha. With `shadow`
    the attacks are fitted on it, else by two-fold cross-fitting. start(stage, total) and advance(steps) tell progress.
    Raises ArgumentError on an alpha that is none.
    """
    check_alpha(alpha)
    began = time.perf_counter()
    parts = folds(target, shadow, np.random.default_rng(seed))
    start("attack", len(parts))
    attacked = run_attacks(target, parts, seed, threads, advance)
    about = {
        "alpha": alpha,
        "seed": seed,
        "fitted_on": "shadow" if shadow is not None else "two-fold cross-fitting",
    }
    results = about | summarise(target, attacked, alpha)
    results["validity"] = [asdict(check) for check in validity_checks(target, shadow, attacked)]
    results["notes"] = [UNSEEN]
    results["seconds"] = round(time.perf_counter() - began, 2)
    return results, rocs(target, attacked, alpha)


def summarise(
    target: Predictions, attacked: dict[str, Attacked], alpha: float, aside: Sequence[str] = ()
) -> dict[str, Any]:
    """What the attacks found, and what cannot be said; plain data.

    aside: attacks that need more than the model; they are listed, and the strongest is sought among the others.
    The verdict looks for a leak in up to four ways: the strongest attack's accuracy, the bounds on epsilon, the
    classes, the attacks of `aside`. It is to be wrong with a probability of at most alpha in all of them together, so
    each has alpha divided by their number, `looks`, and then by the number of its own intervals (Bonferroni).
    """
    member, right = target.member, target.p.argmax(axis=1) == target.y
    looks = 2 + bool(len(measure.class_counts(target)[1])) + bool(aside)
    on_the_model = {name: of for name, of in attacked.items() if name not in aside}
    best = measure.strongest(target, on_the_model, alpha / looks)
    scores = attacked[best["attack"]].scores
    classes = measure.per_class(target, scores, alpha / looks)
    of_epsilon = alpha / looks / len(attacked)
    return {
        "members": int(member.sum()),
        "nonmembers": int((~member).sum()),
        "classes": target.classes,
        "train_accuracy": float(right[member].mean()),
        "test_accuracy": float(right[~member].mean()),
        "looks": looks,
        "attacks": {name: measure.measure(target, of, alpha, of_epsilon) for name, of in attacked.items()},
        "strongest": best,
        "aside": measure.of_aside(target, {name: attacked[name] for name in aside}, alpha / looks),
        "per_class": classes,
        "worst_class": measure.worst_class(classes),
        "most_exposed": measure.most_exposed(target, scores),
        "refused": measure.refusals(target),
        "versions": {
            "nanoprune": nanoprune.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }


def rocs(target: Predictions, attacked: dict[str, Attacked], alpha: float) -> dict[str, dict[str, np.ndarray]]:
    """The ROC of each attack with its band."""
    member = target.member
    return {name: measure.roc_band(of.scores[member], of.scores[~member], alpha) for name, of in attacked.items()}


def write_audit(results: dict[str, Any], path: str | os.PathLike) -> None:
    """Write the results as JSON to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
