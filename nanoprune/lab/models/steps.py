"""The schema of a model file's plain data: the split that it was trained on, and its steps, what was done to it.

A step is a record that says by which settings a network was trained, pruned, shrunk or imported. `attack` repeats the
steps with shadow models, so that a number in them decides how much work and memory that takes. Every value is checked
when the file is read; fields that are missing are the concern of who needs them: older files have fewer.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from nanoprune.errors import DataError
from nanoprune.lab.storage.text import printable

REMEDY = "train it again with `train`"
MOST_STEPS = 100
DEPTH = 5  # of records and lists inside of one another
ENTRIES = 1000  # of a list or record
LONGEST = 10_000  # characters of a text
LARGE = 1e9  # beyond any setting that makes sense


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a value must be: in words, and as a test."""

    words: str
    fits: Callable[[Any], bool]


def integer(low: int, high: int) -> Kind:
    """An integer from low to high; a bool is none."""
    return Kind(f"an integer from {low:,} to {high:,}", lambda value: type(value) is int and low <= value <= high)


def number(low: float, high: float) -> Kind:
    """A finite number from low to high; a bool is none."""
    return Kind(
        f"a number from {low:g} to {high:g}", lambda value: type(value) in (int, float) and low <= value <= high
    )


def text(longest: int = 200) -> Kind:
    """A text of at most so many characters."""
    return Kind(
        f"a text of at most {longest} characters", lambda value: isinstance(value, str) and len(value) <= longest
    )


def one_of(*words: str) -> Kind:
    """One of several words."""
    return Kind(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


def several(kind: Kind) -> Kind:
    """A list, each entry of the same kind."""
    return Kind(f"a list, each entry {kind.words}", lambda v: isinstance(v, list) and all(map(kind.fits, v)))


def either(*kinds: Kind) -> Kind:
    """Of one kind or another."""
    return Kind(" or ".join(kind.words for kind in kinds), lambda value: any(kind.fits(value) for kind in kinds))


NOTHING = Kind("null", lambda value: value is None)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT, EPOCHS, COUNT = text(), integer(1, 1_000_000), integer(0, 1_000_000_000)
AMOUNT, POSITIVE = number(0, LARGE), number(1e-300, LARGE)
RATE = number(1e-300, 100)  # of learning: a larger one can leave outputs that are finite and of no use to an attack
SHARE, BELOW_ONE, RATIO = number(0, 1), number(0, 1 - 2**-53), number(1e-300, 1)

SCHEDULE = {
    "epochs": EPOCHS,
    "batch": integer(1, 100_000_000),
    "lr": RATE,
    "momentum": BELOW_ONE,
    "weight_decay": number(0, 1000),
    "decay": TEXT,
    "augment": TEXT,
    "loss": TEXT,
}
GAME = {
    "minmax": AMOUNT,
    "inner_steps": integer(1, 10_000),
    "adversary": {"updates": integer(0, 10**15), "loss": number(-LARGE, LARGE), "accuracy": SHARE},
}
ADMM = {
    "rho": POSITIVE,
    "iterations": integer(1, 1_000_000),
    "eps_abs": AMOUNT,
    "eps_rel": AMOUNT,
    "adaptive": FLAG,
    "ratio": number(1, LARGE),
    "factor": number(1, LARGE),
}
SOLVERS = ("admm", "magnitude", "gradual", "ste", "admm-zwu", "admm-momentum", "alps", "sparsegpt", "wanda")
PRUNING = GAME | {
    "keep": either(RATIO, several(RATIO), NOTHING),
    "scope": TEXT,
    "scheme": TEXT,
    "solver": one_of(*SOLVERS),
    "exempt": several(TEXT),
    "via": several(RATIO),
    "admm": ADMM,
    "prune": SCHEDULE,
    "retrain": SCHEDULE,
    "status": TEXT,
}
PRIVATE = {
    "epsilons": several(POSITIVE),
    "delta": BELOW_ONE,
    "clip": POSITIVE,
    "clipping": TEXT,
    "epochs": integer(3, 1_000_000),
    "batch": integer(1, 100_000_000),
    "lr": RATE,
    "momentum": BELOW_ONE,
    "rho": POSITIVE,
}
ACCURACY = {"accuracy": {"train": SHARE, "test": SHARE}}  # on the members and the held-out records, after the step
CANARIES = {"canaries": {"count": COUNT, "inserted": text(LONGEST), "sha256": TEXT}}  # see `lab.data.canaries`
STEPS: dict[str, Mapping[str, Any]] = {
    "train": SCHEDULE | GAME | ACCURACY | CANARIES | {"stop_after": either(EPOCHS, NOTHING)},
    "prune": PRUNING | ACCURACY,
    "masked": PRUNING | ACCURACY | {"dense": SCHEDULE, "variant": one_of("random", "synflow", "snip", "grasp")},
    "rewound": PRUNING | ACCURACY | {"dense": SCHEDULE, "early": EPOCHS},
    "distilled": GAME | ACCURACY | {"dense": SCHEDULE, "temperature": POSITIVE},  # and `teacher`, its description
    "past": GAME | ACCURACY | {"dense": SCHEDULE, "strength": AMOUNT},
    "selena": GAME | ACCURACY | {"dense": SCHEDULE, "models": integer(2, 1000), "absent": integer(1, 999)},
    "private": PRUNING
    | ACCURACY
    | CANARIES
    | {
        "dense": SCHEDULE,
        "private": PRIVATE,
        "noise": POSITIVE,
        "variant": one_of("dense", "mask", "synflow", "random", "admm", "magnitude"),
        "way": one_of("dense", "mask", "admm", "magnitude"),  # the name of `variant` in older model files
    },
    "shrink": {"widths": either(AMOUNT, several(COUNT))},
    "import": SCHEDULE
    | ACCURACY
    | {"file": text(1000), "sha256": TEXT},  # and how it was trained, as far as its user says
}
SPLIT = {
    "dataset": TEXT,
    "data_sha256": TEXT,
    "members": either(COUNT, NOTHING),
    "reference": COUNT,
    "nonmembers": COUNT,
    "seed": integer(0, 2**64),
}
CLASS_NAMES = {"class_names": either(several(text(400)), NOTHING)}
NAME = text(200_000)  # of a column: a field of a table may be as long as a line
TABLE = {
    "label": NAME,
    "group": either(NAME, NOTHING),
    "categorical": several(NAME),
    "drop": several(NAME),
}
COLUMN = {  # of a table, by its kind: `lab.data.table_file`
    "number": {"missing": FLAG},
    "category": {"categories": several(text(400))},
    "left out": {"why": text(400)},
    "label": {},
    "group": {},
}
MOST_COLUMNS = 10_000


def check_about(about: Any, where: str) -> None:
    """DataError, naming `where` and the field, unless `about` has all of SPLIT and steps that `check_steps` accepts."""
    if not isinstance(about, dict):
        raise DataError(f"{where}: model is {_shown(about)}, expected a record; {REMEDY}")
    for name in SPLIT:
        if name not in about:
            raise DataError(f"{where}: model.{name} is missing; {REMEDY}")
    _check_fields(about, SPLIT | CLASS_NAMES, f"{where}: model")
    if about.get("table") is not None:
        check_table(about["table"], f"{where}: model.table")
    check_steps(about.get("steps"), where)


def check_table(table: Any, what: str) -> None:
    """DataError, naming the field, unless `table` says how the columns of a table were read and encoded."""
    _check_whole(table, TABLE, what)
    columns = table.get("columns")
    if not isinstance(columns, list) or not 0 < len(columns) <= MOST_COLUMNS:
        raise DataError(f"{what}.columns is {_shown(columns)}, expected a list of at most {MOST_COLUMNS:,}; {REMEDY}")
    for place, column in enumerate(columns):
        kind = column.get("kind") if isinstance(column, dict) else None
        if not isinstance(kind, str) or kind not in COLUMN:
            raise DataError(f"{what}.columns[{place}].kind is {_shown(kind)}, expected {', '.join(COLUMN)}; {REMEDY}")
        _check_whole(column, {"name": NAME} | COLUMN[kind], f"{what}.columns[{place}]")


def _check_whole(record: Any, schema: Mapping[str, Any], what: str) -> None:
    """`_check_fields` of a record in which no field may be missing."""
    if not isinstance(record, dict) or schema.keys() - record.keys():
        raise DataError(f"{what} is {_shown(record)}, expected a record with {', '.join(schema)}; {REMEDY}")
    _check_fields(record, schema, what)


def check_steps(steps: Any, where: str) -> None:
    """DataError, naming `where` and the field, unless every value in the steps is what it has to be.

    A field that the schema does not know may be any plain data of bounded size and depth.
    """
    if not isinstance(steps, list) or len(steps) > MOST_STEPS:
        raise DataError(f"{where}: model.steps is {_shown(steps)}, expected a list of at most {MOST_STEPS}; {REMEDY}")
    for place, step in enumerate(steps):
        what = f"{where}: model.steps[{place}]"
        if not isinstance(step, dict):
            raise DataError(f"{what} is {_shown(step)}, expected a record; {REMEDY}")
        _check_plain(step, what, DEPTH)
        kind = step.get("step")
        if not isinstance(kind, str) or kind not in STEPS:
            raise DataError(f"{what}.step is {_shown(kind)}, expected one of {', '.join(STEPS)}; {REMEDY}")
        _check_fields(step, STEPS[kind], what)


def _check_fields(record: Mapping[str, Any], schema: Mapping[str, Any], what: str) -> None:
    """DataError where a field that the schema knows is not of its kind; a mapping stands for a record of its own."""
    for name, kind in schema.items():
        if name not in record:
            continue
        value = record[name]
        if isinstance(kind, Mapping):
            if not isinstance(value, dict):
                raise DataError(f"{what}.{name} is {_shown(value)}, expected a record; {REMEDY}")
            _check_fields(value, kind, f"{what}.{name}")
        elif not kind.fits(value):
            raise DataError(f"{what}.{name} is {_shown(value)}, expected {kind.words}; {REMEDY}")


def _check_plain(value: Any, what: str, depth: int) -> None:
    """DataError unless it is plain data: finite numbers, texts, lists and records, none too large or too deep."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, (int, float)):
        fits = abs(value) < 2**128 if isinstance(value, int) else math.isfinite(value)
    elif isinstance(value, str):
        fits = len(value) <= LONGEST
    else:
        fits = isinstance(value, (list, dict)) and len(value) <= ENTRIES and depth > 0
    if not fits:
        raise DataError(f"{what} is {_shown(value)}: not finite, too long or too deep; {REMEDY}")
    if isinstance(value, list):
        for entry in value:
            _check_plain(entry, what, depth - 1)
    if isinstance(value, dict):
        for name, entry in value.items():
            _check_plain(name, what, 0)
            _check_plain(entry, f"{what}.{printable(name, 40)}", depth - 1)


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
        return f"an integer of {value.bit_length()} bits"
    return printable(reprlib.repr(value))
