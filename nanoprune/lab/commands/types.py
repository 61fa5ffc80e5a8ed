"""The types of options and arguments: what is accepted, how it is completed, and what a mistyped name may mean."""

from __future__ import annotations

import difflib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from nanoprune.lab.storage.text import printable

MOST_THREADS = 4  # for each processor, and at least 16: beyond that they only take memory and time


class Named(click.ParamType):
    """One of several names that are looked up when they are needed, or something else that the command understands."""

    name = "NAME"

    def names(self) -> Sequence[str]:
        """The names that there are."""
        raise NotImplementedError

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so; where there is none, files."""
        found = [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it is, if it is a name or may be a file; otherwise an error with the names that it may be meant to be."""
        if value in self.names() or os.sep in value or "." in value or os.path.exists(value):
            return value
        near = difflib.get_close_matches(value, self.names(), cutoff=0.5)
        of = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(self.names())}"
        self.fail(f"'{printable(value, 40)}' is no {self.what}; {of}", param, ctx)

    what = "name"


class DataSet(Named):
    """The name of a data set."""

    name, what = "DATASET", "data set"

    def names(self) -> Sequence[str]:
        from nanoprune.lab.data.catalogue import NAMES

        return NAMES


class NetworkName(Named):
    """The name of a network."""

    name, what = "NETWORK", "network"

    def names(self) -> Sequence[str]:
        from nanoprune.lab.zoo import NETWORKS

        return tuple(NETWORKS)


class ImportedNetwork(Named):
    """The name of a network whose weights `import` reads."""

    name, what = "NETWORK", "network whose weights are read by their names or shapes"

    def names(self) -> Sequence[str]:
        from nanoprune.lab.models.torchvision import READ

        return READ


class ExportTarget(Named):
    """What `export` writes."""

    name, what = "TARGET", "target of exports"

    def names(self) -> Sequence[str]:
        from nanoprune.lab.export.export import TARGETS

        return tuple(TARGETS)


class Form(Named):
    """How an export stores weights."""

    name, what = "FORM", "form of weights"

    def names(self) -> Sequence[str]:
        from nanoprune.lab.export.packing import FORMS

        return FORMS


class Attacks(click.ParamType):
    """Names of attacks with commas between them, or "all"."""

    name = "NAME,...|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value != "all":
            from nanoprune.lab.audit.shadow_attacks import chosen_attacks

            chosen_attacks(value)  # raises ArgumentError, which names those that there are
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What the last name may become."""
        from nanoprune.lab.audit.shadow_attacks import attack_names

        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(before + comma + name) for name in attack_names() if name.startswith(last)]


class StorePath(click.Path):
    """A folder; or a URL, which stays a text."""

    def __init__(self) -> None:
        super().__init__(path_type=pathlib.Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, str) and "://" in value else super().convert(value, param, ctx)


class Threads(click.IntRange):
    """A number of threads: one or more, but not many times as many as there are processors."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        threads = super().convert(value, param, ctx)
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        most = max(16, MOST_THREADS * processors)
        if threads > most:
            self.fail(f"{threads} threads on {processors} processors: at most {most}", param, ctx)
        return threads


class Members(click.ParamType):
    """A number of members, or "all"."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        try:
            return value if value == "all" else int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor all", param, ctx)


class Exempt(click.ParamType):
    """Names of layers with commas between them, or "none"."""

    name = "LAYER[,...]|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return () if value == "none" else tuple(value.split(",")) if isinstance(value, str) else value


class Numbers(click.ParamType):
    """Numbers with commas between them."""

    name = "NUMBER,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        try:
            return [float(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is not numbers with commas between them", param, ctx)


class Keep(click.ParamType):
    """A ratio for all layers, or one a layer with commas between them."""

    name = "RATIO[,...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            ratios = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a ratio in (0, 1] or several with commas between them", param, ctx)
        return ratios if len(ratios) > 1 else ratios[0]
