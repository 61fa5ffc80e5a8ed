"""Audits of the predictions of any model, and their comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.api.arguments import SHADOW, expect
from nanoprune.lab.api.inputs import groups_of, plain
from nanoprune.lab.api.progress import progress_for, threads_for
from nanoprune.lab.api.results import Audit, Comparison
from nanoprune.lab.audit import Audited, audit_predictions, read_predictions
from nanoprune.lab.audit import compare as compare_audits
from nanoprune.lab.audit.audit import DELTA
from nanoprune.lab.audit.predictions import Predictions, check_pair, predictions_of, seem_probabilities
from nanoprune.lab.audit.verdict import PRIOR, conclude

SPLITS = ("random", "fixed")


def audit(
    logits: Any,
    labels: Any = None,
    member: Any = None,
    *,
    group: Any = None,
    shadow: tuple[Any, ...] | None = None,
    quick: bool = False,
    alpha: float = 0.05,
    prior: float = PRIOR,
    seed: int = 0,
    split: str = "random",
    delta: float = DELTA,
    n_jobs: int | None = None,
    verbose: bool | None = None,
) -> Audit:
    """Attack the predictions of a model, from any framework: what do they say of who was in its training data?

    logits: (n, classes), what the model puts out for n records; rows that are not negative and sum to 1 are taken for
    probabilities. labels: (n,) their true classes, 0 .. classes - 1. member: (n,) whether each was trained on. Or the
    path of a file (.npz, .h5 or .csv, docs/audit.md) in place of the three. At least 8 members and 8 non-members.
    group: (n,) whose record each is, numbers or text: the audit counts groups then, all records of which must be on one
    side. shadow: the same arrays of a model of your own, trained alike, on which the attacks are fitted; else those on
    each half of the records are fitted on the other half. quick: without the attack network, which takes most time.
    alpha: intervals have confidence 1 - alpha. prior: the share of members among those that an attacker may accuse, for
    the verdict. seed: of the halves and the attack network. split: "fixed" where members were not drawn by chance, as
    of an official training set; there are no bounds on epsilon then. delta: of the bounds on (epsilon, delta). n_jobs:
    processes at most, None for 1, -1 for one a processor; the results do not depend on it. verbose: show progress; by
    default in notebooks. Raises ArgumentError or DataError, in one line, on arrays, a file or numbers that cannot be
    used.
    """
    for name, value in (("alpha", alpha), ("prior", prior), ("delta", delta)):
        expect(name, value, "a number")
    if expect("seed", seed, "an integer") < 0:
        raise ArgumentError(f"seed must be at least 0, got {seed}")
    if expect("split", split, "a text") not in SPLITS:
        raise ArgumentError(f"split must be {' or '.join(SPLITS)}, got {split!r}")
    if isinstance(logits, (str, os.PathLike)):
        if any(given is not None for given in (labels, member, group, shadow)):
            raise ArgumentError("labels, member, group and shadow are in the file; leave them out, or give arrays")
        target, fitted_on = read_predictions(logits)
    else:
        target, fitted_on = from_arrays((logits, labels, member, group), shadow)
    options: dict[str, Any] = {"threads": threads_for(n_jobs), "random_split": split == "random", "delta": delta}
    with progress_for(verbose) as progress:
        options |= {"start": progress.start, "advance": progress.advance, "prior": prior, "quick": quick}
        done = audit_predictions(target, fitted_on, alpha, seed, **options)
    return Audit(done.results, done.curves, done)


def compare(audits: Mapping[str, Audit] | None = None, /, *, alpha: float = 0.05, **named: Audit) -> Comparison:
    """Compare audits of models on the same records, `compare(dense=audit, pruned=small.audit())`.

    The others are compared with the first, record by record. audits: by name, where a name is no word. alpha: the
    intervals of each kind hold at confidence 1 - alpha for all models together. Raises ArgumentError on fewer than two
    audits, DataError where they are not of the same records in the same order.
    """
    given: dict[str, Audited] = {}
    expect("alpha", alpha, "a number")
    for name, of in {**(expect("audits", audits, "audits by name", "None") or {}), **named}.items():
        if not isinstance(of, Audit):
            raise ArgumentError(f"{name} must be an Audit, got {type(of).__name__}; make it with audit(...)")
        if of.audited is None:
            raise ArgumentError(f"{name} was made with shadow models, which are not compared; audit without shadows")
        given[name] = of.audited
    compared = compare_audits(given, alpha)
    return Comparison(compared.to_dict(), compared.curves)


def of_rows(done: Audit, members: np.ndarray, what: str) -> Audit:
    """The audit with the members that it names by their rows of `what`; members: the row of each, which come first."""
    results = done.results
    for record in [*results["most_exposed"], *results["discoveries"]["records"]]:
        record["row"] = int(members[record["row"]])
    results["rows_of"] = what
    results["verdict"] = conclude(results, results["verdict"]["prior"])
    return done


def from_arrays(arrays: tuple[Any, ...], shadow: tuple[Any, ...] | None) -> tuple[Predictions, Predictions | None]:
    """The target's predictions, and the shadow's where there are some, checked. Raises ArgumentError."""
    expect("shadow", shadow, SHADOW, "None")
    try:
        target = one_model("", *arrays)
        fitted_on = None if shadow is None else one_model("shadow ", *shadow)
        check_pair(target, fitted_on, "audit")
    except DataError as error:
        raise ArgumentError(str(error).replace("target_", "")) from error
    return target, fitted_on


def one_model(prefix: str, logits: Any, labels: Any, member: Any, group: Any = None) -> Predictions:
    """The predictions of one model from its arrays."""
    given = {"logits": logits, "labels": labels, "member": member}
    missing = [name for name, values in given.items() if values is None]
    if missing:
        raise ArgumentError(f"{prefix}{missing[0]} is missing; give logits (n, classes), labels (n,) and member (n,)")
    values, *columns = (plain(array, prefix + name) for name, array in given.items())
    kind = "probs" if values.ndim == 2 and values.dtype.kind in "iuf" and seem_probabilities(values) else "logits"
    y, inside = (array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for array in columns)
    arrays = {f"target_{kind}": values, "target_labels": y, "target_member": inside}
    if group is not None:
        arrays["target_group"] = groups_of(group, len(values))
    return predictions_of(arrays, f"audit: {prefix}".rstrip(" :"))
