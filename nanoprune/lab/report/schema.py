"""The schema of results.json, see docs/formats.md: it is checked before anything is plotted."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LONGEST = 20_000  # characters of a text
MOST_METHODS = 100  # a plot of more cannot be read, nor its labels be placed in a moment
DEEPEST = 8  # levels of a recipe


def text(value: Any) -> bool:
    """A text that can be written as UTF-8."""
    return isinstance(value, str) and len(value) <= LONGEST and not re.search("[\ud800-\udfff]", value)


def name(value: Any) -> bool:
    """A short name in ASCII: what methods and attacks are called."""
    return isinstance(value, str) and re.fullmatch(r"[ -~]{1,80}", value) is not None


def rate(value: Any) -> bool:
    """A false positive rate as a name: "0.01"."""
    return isinstance(value, str) and re.fullmatch(r"0\.[0-9]{1,9}", value) is not None


def number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e15


def small(value: Any) -> bool:
    """An accuracy, a rate, or an end of an interval, which may lie outside of [0, 1]; or none that was measured."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or (number(value) and abs(value) <= 1e3)


def plain(value: Any, depth: int = DEEPEST) -> bool:
    """Anything that JSON holds, not nested too deep."""
    if isinstance(value, (Mapping, list, tuple)):
        keys, inner = (value.keys(), value.values()) if isinstance(value, Mapping) else ((), value)
        return depth > 0 and all(text(key) for key in keys) and all(plain(v, depth - 1) for v in inner)
    return value is None or isinstance(value, bool) or number(value) or text(value)


class Each:
    """A mapping from names to values of one kind, `but` some names; at most so many. `named` says what is a name."""

    def __init__(
        self,
        kind: Any,
        most: int = MOST_METHODS,
        named: Callable[[Any], bool] = name,
        but: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind, self.most, self.named, self.but = kind, most, named, but or {}


class Nullable:
    """A value that may be None."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind


class Optional(Nullable):
    """A value that may be None, or not there."""


SUMMARY = {"mean": small, "low": small, "high": small, "values": [small]}
RATES = Each(Nullable(SUMMARY), named=rate)
ATTACK = {"accuracy": SUMMARY, "auc": SUMMARY, "tpr_at_fpr": RATES, "accuracy_per_class_threshold": Optional(SUMMARY)}
METHOD = {
    "nonzero": number,
    "compression": number,
    "train_accuracy": Nullable(SUMMARY),
    "test_accuracy": SUMMARY,
    "attacks": Each(ATTACK),
    "strongest_attack": name,
    "strongest_attack_accuracy": SUMMARY,
    "solver": Optional({"status": [text]}),
    "controls": Optional(
        Each({"difference": text, "attack_accuracy_change": SUMMARY, "test_accuracy_change": SUMMARY})
    ),
    "shadow_attacks": Optional(Each({"accuracy": SUMMARY, "auc": SUMMARY, "tpr_at_fpr": RATES})),
}
CHANGED = METHOD | {"attack_accuracy_change": SUMMARY, "test_accuracy_change": SUMMARY}  # against the baseline
RESULTS = {
    "dataset": text,
    "network": text,
    "device": text,
    "precision": text,
    "command": text,
    "seeds": [number],
    "seconds": number,
    "versions": {"nanoprune": text},
    "recipe": plain,
    "splits": plain,
    "notes": [text],
    "unit": Optional(text),
    "groups": Optional({"scored_members": [number], "scored_nonmembers": [number]}),
    "validity": Optional([{"name": text, "outcome": text, "found": text}]),
    "methods": Each(CHANGED, but={"baseline": METHOD}),
}


def faults(value: Any, kind: Any = RESULTS, where: str = "") -> Iterator[str]:
    """What is not as `kind` says, in words: a function of the value, [kind] a list, {name: kind} an object."""
    if isinstance(kind, Nullable):
        yield from () if value is None else faults(value, kind.kind, where)
    elif isinstance(kind, list):
        if not isinstance(value, (list, tuple)):
            yield f"{where} is no list"
        else:
            for i, inner in enumerate(value):
                yield from faults(inner, kind[0], f"{where}[{i}]")
    elif isinstance(kind, (dict, Each)):
        yield from _object_faults(value, kind, where)
    else:
        check: Callable[[Any], bool] = kind
        if not check(value):
            yield f"{where} is {_short(value)}"


def _object_faults(value: Any, kind: dict[str, Any] | Each, where: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where or 'the whole'} is no object"
        return
    if isinstance(kind, Each):
        if len(value) > kind.most or not all(kind.named(key) for key in value):
            yield f"{where} has {len(value)} entries, or one whose name is not short and plain"
            return
        kind = {key: kind.but.get(key, kind.kind) for key in value}
    for key, inner in kind.items():
        place = f"{where}.{key}" if where else key
        if key in value:
            yield from faults(value[key], inner, place)
        elif not isinstance(inner, Optional):
            yield f"{place} is missing"


def _short(value: Any) -> str:
    """What a value is, in a few words."""
    return ascii(value)[:60] if isinstance(value, (str, bool, float, type(None))) else f"a {type(value).__name__}"
