"""The metadata of exported files, without anything that identifies the members.

Data set, hash, sizes of the split and seed together determine the list of the members: `make_split` draws it again. So
the metadata is written from a fixed list of fields, and the other fields of a laboratory file are not exported.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import nanoprune
from nanoprune.backend import to_host
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit.predictions import file_sha256
from nanoprune.lab.layers import ColumnScaling
from nanoprune.lab.models.model import Model
from nanoprune.lab.shrink.shrink import shrink
from nanoprune.lab.statistics import clopper_pearson
from nanoprune.lab.storage.bounded import read_bounded, read_json
from nanoprune.nn import Network
from nanoprune.nn.sequential import leaves

ARCHITECTURE = ("network", "input_shape", "classes", "width", "widths", "standardise", "numbers", "sequence", "tokens")
NAMES_MEMBERS = (
    "{path} identifies its members: its data set, seed and split sizes determine the list. Share the files that "
    "`export` or `prune --release` writes."
)
NO_VALUE_WORDS = "no value"
LABELS_LIMIT = 1 << 20  # bytes


def about(
    model: Model,
    form: str,
    audit: dict[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    licence: str = "not stated",
) -> dict[str, Any]:
    """The metadata of an export, plain data. The labels are the model's own where none are given.

    audit: from `audit_summary`. labels: a name for each class. Raises ArgumentError where they do not fit.
    """
    net = model.net
    classes = net.output_shape[0]
    if labels is not None and len(labels) != classes:
        raise ArgumentError(f"labels must be {classes} names, one per class, got {len(labels)}")
    description = {name: net.description[name] for name in ARCHITECTURE if name in net.description}
    found: dict[str, Any] = {
        "network": description["network"],
        "architecture": description,
        "input": input_words(net.input_shape, model.table is not None, description.get("tokens")),
        "weights": f"{form}; {int(net.nonzero()[0]):,} of {net.weight_count:,} are not zero",
        "labels": list(labels or model.class_names or map(str, range(classes))),
        "licence": licence,
        "nanoprune": nanoprune.__version__,
    }
    found |= {} if model.table is None else {"columns": encoding(model)}
    return found | ({"audit": audit} if audit else {})


def encoding(model: Model) -> list[dict[str, Any]]:
    """How a record of a table becomes the network's input: for each feature, in its order, the column it is of.

    {"column", "missing": the number to write where there is none}, {"column", "is": "no value"} or {"column", "is":
    category}: 1 where the record has that, else 0. Nothing says who the members are: the numbers are their means.
    """
    names, means = model.table["columns"], to_host(first_mean(model.net))[0, :, 0].tolist()
    numbers = [of for of in names if of["kind"] == "number"]
    found: list[dict[str, Any]] = [
        {"column": of["name"], "missing": mean} for of, mean in zip(numbers, means, strict=False)
    ]
    found += [{"column": of["name"], "is": NO_VALUE_WORDS} for of in numbers if of["missing"]]
    for of in names:
        found += [{"column": of["name"], "is": c or NO_VALUE_WORDS} for c in of.get("categories", [])]
    return found


def first_mean(net: Network) -> Any:
    """The means (R, F, 1) of the layer that scales a table's columns."""
    return next(layer for layer in leaves(net.body) if isinstance(layer, ColumnScaling)).mean.value


def input_words(input_shape: tuple[int, ...], is_table: bool = False, tokens: int | None = None) -> str:
    """The preprocessing in words. tokens: how many there are, where the inputs are tokens."""
    if tokens:
        return f"float32 (N, {input_shape[0]}), tokens: whole numbers from 1 to {tokens - 1}, then 0 to the end"
    if is_table:
        return f"float32 (N, {input_shape[0]}), the features of `columns`: numbers as they are, categories as 0 or 1"
    if len(input_shape) == 1:
        return f"float32 (N, {input_shape[0]}), features scaled to [0, 1]"
    H, C, W = input_shape
    return f"float32 (N, {C}, {H}, {W}), channels first, pixels scaled to [0, 1]"


def read_audit(path: pathlib.Path, weights: pathlib.Path) -> dict[str, Any]:
    """The summary of the audit in the JSON file `path`, of the model file `weights`.

    Raises DataError where the file is not an audit, where it is void, or where it is of another file than `weights`.
    """
    results = read_json(path, "write it with `attack MODEL --json FILE`")
    try:
        audited, rows_of = results["source"]["sha256"], results.get("rows_of")
        summary = audit_summary(results)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not an audit ({error!r}); write it with `attack MODEL --json FILE`") from error
    if rows_of != "data set":
        raise DataError(f"{path}: an audit of predictions, not of weights; audit the model file with `attack`")
    if audited != file_sha256(weights):
        raise DataError(f"{path}: an audit of other weights than those of {weights}; run `attack {weights}` again")
    if summary["void"]:
        raise DataError(f"{path}: the audit is void, its figures are not valid; see its validity checks")
    return summary


def check_shrunk(model: Model, audited: Model, path: pathlib.Path) -> None:
    """Raises DataError where `model` is not, bit for bit, the result of `shrink` on `audited`, the model file `path`.

    `shrink` changes outputs only by rounding, and `attack` audits the model before it.
    """
    small = shrink(audited.net)
    if small.description != model.net.description or not all(
        (to_host(ours) == to_host(theirs)).all()
        for ours, theirs in ((small.theta, model.net.theta), (small.state, model.net.state))
    ):
        raise DataError(f"{path}: the model is not the result of `shrink` on it; name the file that `shrink` read")


def audit_summary(results: dict[str, Any]) -> dict[str, Any]:
    """The figures of an audit that may be published: no counts of records, no indices, no seed, no names of files.

    Accuracies and intervals in percent, rounded to a tenth; guessing has 50.
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
        return "Not audited: its leakage about the training data is not known."
    accuracy, of = summary["attack_accuracy"], summary["strongest_attack"].replace("_", " ")
    figures = f"{accuracy['value']:.1f}% ({accuracy['low']:.1f} to {accuracy['high']:.1f}%; guessing has 50%)"
    if accuracy["low"] > 50:
        return (
            f"The strongest attack ({of}) separates members from non-members with an accuracy of {figures}: it leaks."
        )
    return f"No detectable leak in accuracy: the strongest attack ({of}) has {figures}."


def read_labels(path: pathlib.Path) -> list[str]:
    """The nonempty lines of a text file. Raises DataError where it cannot be read as UTF-8 text."""
    try:
        text = read_bounded(path, LABELS_LIMIT).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text; write one name per line") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
