"""Options for the columns of a table, and lines that say how they are read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from nanoprune.lab.storage.text import printable, printable_list

SHOWN = 30  # names in one line


class Names(click.ParamType):
    """Names with commas between them."""

    name = "COLUMN,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def column_options(command: Callable) -> Callable:
    """The options that say how the columns of a table are read. The command gets them as one argument, `columns`."""

    @functools.wraps(command)
    def with_columns(*args: Any, label: Any, group: Any, categorical: Any, drop: Any, **others: Any) -> Any:
        columns = {"label": label, "group": group, "categorical": categorical, "drop": drop}
        return command(*args, columns=columns, **others)

    for option in reversed(OPTIONS):
        with_columns = option(with_columns)
    return with_columns


OPTIONS = (
    click.option("--label", metavar="COLUMN", help="Table: the column with the class labels.  [default: none]"),
    click.option(
        "--group",
        metavar="COLUMN",
        help="Table: the column that says which person a record belongs to.  [default: each record is independent]",
    ),
    click.option(
        "--categorical", type=Names(), default=(), help="Table: numeric columns that are categories.  [default: none]"
    ),
    click.option("--drop", type=Names(), default=(), help="Table: columns to leave out.  [default: none]"),
)


def column_lines(table: dict[str, Any]) -> list[str]:
    """What the columns of a table are taken for, a line for each kind; texts of the file are made printable."""
    of_kind: dict[str, list[dict[str, Any]]] = {}
    for column in table["columns"]:
        of_kind.setdefault(column["kind"], []).append(column)
    lines = [f"{kind}: {printable(of_kind[kind][0]['name'])}" for kind in ("label", "group") if kind in of_kind]
    numbers, categories = of_kind.get("number", []), of_kind.get("category", [])
    if numbers:
        names = [of["name"] + (" (some have none)" if of["missing"] else "") for of in numbers]
        lines.append(f"{len(numbers)} numbers, standardised by the members: {printable_list(names, SHOWN)}")
    if categories:
        names = [f"{of['name']} ({len(of['categories'])})" for of in categories]
        lines.append(f"{len(categories)} columns of categories: {printable_list(names, SHOWN)}")
    reasons: dict[str, list[str]] = {}
    for column in of_kind.get("left out", []):
        reasons.setdefault(column["why"], []).append(column["name"])
    return lines + [f"left out ({printable(why)}): {printable_list(names, SHOWN)}" for why, names in reasons.items()]


def data_record(dataset: Any) -> dict[str, Any]:
    """What a data set is, plain data: its shape, the records of each class, the groups, the columns."""
    names = dataset.class_names or [str(c) for c in range(dataset.classes)]
    counts = np.bincount(dataset.y, minlength=dataset.classes).tolist()
    sizes = None if dataset.groups is None else np.bincount(dataset.groups)
    return {
        "name": dataset.title,
        "sha256": dataset.sha256,
        "records": len(dataset.y),
        "shape": list(dataset.x.shape[1:]),
        "train": dataset.train,
        "classes": dict(zip(names, counts, strict=True)),
        "groups": None if sizes is None else {"count": len(sizes), "most": int(sizes.max())},
        "table": dataset.table,
    }


def data_lines(dataset: Any) -> list[str]:
    """The same in words."""
    of = data_record(dataset)
    total, form = of["records"], " (height, channels, width)" if len(of["shape"]) == 3 else " features"
    form = f" tokens, of {dataset.tokens:,}" if dataset.tokens else form
    shape = " x ".join(map(str, of["shape"])) + form
    lines = [f"{printable(of['name'])}: {total:,} records of {shape}, SHA-256 {of['sha256'][:16]}..."]
    if of["train"] < total:
        lines.append(f"the first {of['train']:,} are the official training set")
    largest = sorted(of["classes"].items(), key=lambda item: -item[1])
    shown = [f"{name} {n:,} ({100 * n / total:.1f}%)" for name, n in largest]
    lines.append(f"{len(shown)} classes: {printable_list(shown, SHOWN)}")
    if of["groups"]:
        lines.append(f"{of['groups']['count']:,} groups, of at most {of['groups']['most']:,} records")
    return lines + (column_lines(of["table"]) if of["table"] else [])
