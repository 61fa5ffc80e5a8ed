"""The audit of predictions: attacks, statistics and validity checks."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy

import nanoprune
from nanoprune.lab.audit import measure
from nanoprune.lab.audit.attack_choice import Chosen, choose, scored_rows
from nanoprune.lab.audit.prediction_attacks import Attacked, folds, run_attacks
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.audit.validity import validity_checks
from nanoprune.lab.audit.verdict import PRIOR, check_prior, conclude
from nanoprune.lab.statistics.epsilon_bounds import check_delta
from nanoprune.lab.statistics.proportion import check_alpha
from nanoprune.lab.statistics.units import Units
from nanoprune.lab.storage.files import atomic_path

UNSEEN = (
    "predictions alone do not show how they were made: make sure that the model was in evaluation mode (no dropout, "
    "batch statistics frozen), and, for a defence, that it has the sparsity asked for and its adversary learned "
    "something"
)
CONDITIONS = (
    "bounds on epsilon assume that the membership of each {unit} was drawn at random, independently, and take the "
    "number of members as public. They do not hold for an official training set, which was not drawn at random "
    "(audit --split fixed gives none)"
)
OF_GROUPS = (
    "bounds on epsilon are for groups, with all records of a group added or removed: they refute no claim for single "
    "records, such as DP-SGD's"
)
FIXED = "bounds on epsilon: membership was not drawn at random"
QUICK = "a quick audit: without the attack network, which is sometimes the strongest attack"
DELTA = 1e-5


@dataclass(frozen=True, eq=False)
class Audited:
    """An audit of predictions: `results`, plain data; `curves`, the ROC of each attack; and, for a comparison, the
    predictions and the strongest attack's scores and decisions."""

    results: dict[str, Any]
    curves: dict[str, dict[str, np.ndarray]]
    target: Predictions
    chosen: Chosen


def audit(*arguments: Any, **options: Any) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """`audit_predictions`: the results, and for each attack its ROC."""
    done = audit_predictions(*arguments, **options)
    return done.results, done.curves


def audit_predictions(
    target: Predictions,
    shadow: Predictions | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    threads: int = 1,
    start: Callable[[str, int | None], None] = lambda stage, total: None,
    advance: Callable[[int], None] = lambda steps: None,
    random_split: bool = True,
    delta: float = DELTA,
    prior: float = PRIOR,
    quick: bool = False,
) -> Audited:
    """Attack the target's predictions and report what was found.

    The results are plain data, as docs/formats.md describes them; intervals have confidence 1 - alpha. With `shadow`
    the attacks are fitted on it, else by two-fold cross-fitting. start(stage, total) and advance(steps) tell progress.
    random_split: whether membership was drawn at random; if not, there are no bounds on epsilon. delta: of
    the bounds for (epsilon, delta)-differential privacy. prior: the share of members that the verdict's precision is
    for. quick: without the attack network. The results do not depend on `threads`.
    Raises ArgumentError on an alpha, delta or prior outside of (0, 1).
    """
    check_alpha(alpha)
    check_delta(delta, positive=True)
    check_prior(prior)
    began = time.perf_counter()
    parts = folds(target, shadow, np.random.default_rng(seed))
    notes = [UNSEEN, *conditions(target.units, random_split), *([QUICK] if quick else [])]
    attacked = run_attacks(target, parts, seed, threads, start, advance, notes.append, quick)
    about = {
        "alpha": alpha,
        "seed": seed,
        "threads": threads,
        "fitted_on": "shadow" if shadow is not None else "two-fold cross-fitting",
    }
    results = about | summarise(target, attacked, alpha, scored_rows(parts), (), random_split, delta)
    chosen = choose(attacked, scored_rows(parts))
    results["validity"] = [asdict(check) for check in validity_checks(target, shadow, attacked)]
    results["notes"] = notes
    results["verdict"] = conclude(results, prior)
    results["seconds"] = round(time.perf_counter() - began, 2)
    return Audited(results, rocs(target, attacked, alpha), target, chosen)


def conditions(units: Units, random_split: bool) -> list[str]:
    """What the bounds on epsilon rest on, where there are any."""
    if not random_split:
        return []
    unit = "group" if units.grouped else "record"
    return [CONDITIONS.format(unit=unit), *([OF_GROUPS] if units.grouped else [])]


def summarise(
    target: Predictions,
    attacked: dict[str, Attacked],
    alpha: float,
    scored: Sequence[np.ndarray],
    auxiliary: Sequence[str] = (),
    random_split: bool = True,
    delta: float = DELTA,
) -> dict[str, Any]:
    """What the attacks found, and what cannot be measured; plain data.

    Attacks, classes and bounds count the units of `target`: records, or groups where it has those; then "groups" says
    how many. scored: the units that each fold scored. auxiliary: attacks that need more than the model; they are
    listed, and the strongest is chosen among the others.
    The verdict rests on up to five kinds of evidence: the strongest attack's accuracy, the bounds on epsilon, the
    classes, what is found at few false positives, the attacks of `auxiliary`. The probability that any of them is
    wrong is at most alpha: each kind has alpha divided by their number, `bonferroni_divisor`, and then by the number of
    its own intervals (Bonferroni).
    """
    member, right, units = target.member, target.p.argmax(axis=1) == target.y, target.units
    evidence = (random_split, len(measure.class_counts(units)[1]), measure.measurable_rates(units), auxiliary)
    divisor = 1 + sum(map(bool, evidence))
    on_the_model = {name: of for name, of in attacked.items() if name not in auxiliary}
    chosen = choose(on_the_model, list(scored))
    classes = measure.per_class(units, chosen.scores, alpha / divisor)
    of_epsilon = alpha / divisor / len(attacked) if random_split else None
    return {
        "members": int(member.sum()),
        "nonmembers": int((~member).sum()),
        **({"unit": "group", "groups": measure.sides(units)} if units.grouped else {}),
        "classes": target.classes,
        "train_accuracy": float(right[member].mean()),
        "test_accuracy": float(right[~member].mean()),
        "bonferroni_divisor": divisor,
        "attacks": {name: measure.measure(units, of, alpha, of_epsilon, delta) for name, of in attacked.items()},
        "strongest": measure.strongest(units, chosen, alpha / divisor, alpha),
        "auxiliary_attacks": measure.auxiliary_attacks(
            units, {name: attacked[name] for name in auxiliary}, alpha / divisor
        ),
        "per_class": classes,
        "worst_class": measure.worst_class(classes),
        "most_exposed": measure.most_exposed(units, chosen.scores),
        "discoveries": measure.discoveries(units, chosen, alpha),
        "refused": [*measure.refusals(units), *([] if random_split else [FIXED])],
        "versions": {
            "nanoprune": nanoprune.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }


def rocs(target: Predictions, attacked: dict[str, Attacked], alpha: float) -> dict[str, dict[str, np.ndarray]]:
    """The ROC of each attack with its band."""
    member = target.units.member
    return {name: measure.roc_band(of.scores[member], of.scores[~member], alpha) for name, of in attacked.items()}


def write_audit(results: dict[str, Any], path: str | os.PathLike) -> None:
    """Write the results as JSON to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
