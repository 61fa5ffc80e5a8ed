"""What an exported file says of itself: nothing that names the members.

Data set, hash, sizes of the split and seed together are the list of the members, since `make_split` draws it again. So
the metadata is written from a fixed list of fields, and what a laboratory file has beside them stays there.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import nanoprune
from nanoprune.backend import to_host
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit.predictions import file_sha256
from nanoprune.lab.models.model import Model
from nanoprune.lab.shrink.shrink import shrink
from nanoprune.lab.statistics import clopper_pearson
from nanoprune.lab.storage.bounded import read_bounded, read_json

ARCHITECTURE = ("network", "input_shape", "classes", "width", "widths", "standardise", "sequence")  # of a description
NAMES_MEMBERS = (
    "{path} names its members: data set, seed and sizes of the split in it draw the list again. Share what `export` or "
    "`prune --release` writes."
)
LABELS_LIMIT = 1 << 20  # bytes


def about(
    model: Model,
    form: str,
    audit: dict[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    licence: str = "not stated",
) -> dict[str, Any]:
    """The metadata of an export, plain data.

    audit: as `audit_summary` gives it. labels: a name for each class. Raises ArgumentError where they do not fit.
    """
    net = model.net
    classes = net.output_shape[0]
    if labels is not None and len(labels) != classes:
        raise ArgumentError(f"labels must be {classes} names, one a class, got {len(labels)}")
    description = {name: net.description[name] for name in ARCHITECTURE if name in net.description}
    found: dict[str, Any] = {
        "network": description["network"],
        "architecture": description,
        "input": input_words(net.input_shape),
        "weights": f"{form}; {int(net.nonzero()[0]):,} of {net.weight_count:,} are not zero",
        "labels": list(labels) if labels is not None else [str(c) for c in range(classes)],
        "licence": licence,
        "nanoprune": nanoprune.__version__,
    }
    return found | ({"audit": audit} if audit else {})


def input_words(input_shape: tuple[int, ...]) -> str:
    """The preprocessing in words."""
    if len(input_shape) == 1:
        return f"float32 (N, {input_shape[0]}), features scaled to [0, 1]"
    H, C, W = input_shape
    return f"float32 (N, {C}, {H}, {W}), channels first, pixels scaled to [0, 1]"


def read_audit(path: pathlib.Path, weights: pathlib.Path) -> dict[str, Any]:
    """The summary of the audit in the JSON file `path`, of the model file `weights`.

    Raises DataError where the file is no audit, where it is void, or where it is of another file than `weights`.
    """
    results = read_json(path, "write it with `attack MODEL --json FILE`")
    try:
        audited, rows_of = results["source"]["sha256"], results.get("rows_of")
        summary = audit_summary(results)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not an audit ({error!r}); write it with `attack MODEL --json FILE`") from error
    if rows_of != "data set":
        raise DataError(f"{path}: an audit of predictions, which name no weights; audit the model file with `attack`")
    if audited != file_sha256(weights):
        raise DataError(f"{path}: an audit of other weights than those of {weights}; run `attack {weights}` again")
    if summary["void"]:
        raise DataError(f"{path}: the audit is void, its figures say nothing of the model; see its validity checks")
    return summary


def check_shrunk(model: Model, audited: Model, path: pathlib.Path) -> None:
    """Raises DataError where `model` is not, bit for bit, what `shrink` makes of `audited`, the model file `path`.

    `shrink` changes no output but by rounding, and `attack` takes the model before it.
    """
    small = shrink(audited.net)
    if small.description != model.net.description or not all(
        (to_host(ours) == to_host(theirs)).all()
        for ours, theirs in ((small.theta, model.net.theta), (small.state, model.net.state))
    ):
        raise DataError(f"{path}: `shrink` does not make the model of it; name the file that `shrink` read")


def audit_summary(results: dict[str, Any]) -> dict[str, Any]:
    """The figures of an audit that may leave: no counts of records, no indices, no seed, no names of files.

    Accuracies and intervals in percent, rounded to a tenth; a guess has 50.
    """
    best, strongest = results["strongest"], results["attacks"]
    entry = strongest[best["attack"]]
    return {
        "strongest_attack": best["attack"],
        "attack_accuracy": percent(best["accuracy"]),
        "confidence": round(1 - results["alpha"], 4),
        "auc": percent(entry["auc"]),
        "tpr_at_fpr": {rate: percent(of) for rate, of in entry["tpr_at_fpr"].items() if of},
        "train_accuracy": round(100 * results["train_accuracy"], 1),
        "test_accuracy": test_accuracy(results),
        "attacks": sorted(results["attacks"]),
        "void": any(check["outcome"] == "void" for check in results["validity"]),
    }


def test_accuracy(results: dict[str, Any]) -> dict[str, float]:
    """The accuracy on the audit's non-members in percent, with its Clopper-Pearson interval."""
    count, value = results["nonmembers"], results["test_accuracy"]
    low, high = clopper_pearson(round(count * value), count, results["alpha"])
    return percent({"value": value, "low": low, "high": high})


def percent(interval: dict[str, float]) -> dict[str, float]:
    """{"value", "low", "high"} in percent."""
    return {name: round(100 * float(interval[name]), 1) for name in ("value", "low", "high")}


def verdict(summary: dict[str, Any] | None) -> str:
    """The audit in one sentence."""
    if summary is None:
        return "Not audited: how much it reveals about its training data is not known."
    accuracy, of = summary["attack_accuracy"], summary["strongest_attack"].replace("_", " ")
    figures = f"{accuracy['value']:.1f}% ({accuracy['low']:.1f} to {accuracy['high']:.1f}%; a guess has 50%)"
    if accuracy["low"] > 50:
        return f"The strongest attack ({of}) tells members from non-members with an accuracy of {figures}: it leaks."
    return f"No detectable leak in accuracy: the strongest attack ({of}) has {figures}."


def read_labels(path: pathlib.Path) -> list[str]:
    """The lines of a text file that are not empty. Raises DataError where it cannot be read as UTF-8 text."""
    try:
        text = read_bounded(path, LABELS_LIMIT).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no UTF-8 text; write one name a line") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
