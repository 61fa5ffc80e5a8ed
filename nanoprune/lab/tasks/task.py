"""A task: a piece of work, described in canonical JSON.

It says what to train, on which data (name and hash) and in which environment (versions, BLAS kernels, device). The same
text gives the same bytes in any process, or is refused. The text names no file: a data set is looked up by its name
among those that the package knows, or is given by whoever performs the task; a result is named by the text's hash.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from typing import Any

import scipy.linalg  # noqa: F401  loads its BLAS, so that `blas` says the same in every process

from nanoprune.backend import device_name, precision
from nanoprune.errors import ArgumentError, DataError, VersionError
from nanoprune.lab.audit.shadows import BLOCK, FEWEST, repeated
from nanoprune.lab.engine.identity import blas, code_sha256, kernels, versions
from nanoprune.lab.models.model import Model
from nanoprune.lab.models.steps import SPLIT, check_about
from nanoprune.lab.storage.bounded import DAMAGE, first_line, read_json
from nanoprune.lab.storage.checkpoint import differences
from nanoprune.lab.storage.text import printable
from nanoprune.lab.zoo import build, checked

FORMAT = 1
SHADOWS, COMPARISON, SWEEP = "shadows", "comparison", "sweep"  # kinds
OF_TASK = ("format", "kind", "environment")
OF_KIND = {
    SHADOWS: ("network", "model", "block", "shadows", "rows"),
    COMPARISON: ("dataset", "data_sha256", "table", "recipe", "methods", "seed"),
    SWEEP: ("dataset", "data_sha256", "table", "recipe", "family", "keeps", "lambdas", "seed"),
}
OF_MODEL = (*SPLIT, "steps", "table")
TYPES = {"dataset": str, "data_sha256": str, "table": dict | None, "recipe": dict, "seed": int}  # of fields
TYPES |= {"methods": str, "family": str, "keeps": list, "lambdas": list}
MOST_BLOCKS = 2**32
REMEDY = "write it again with --plan"


def canonical(value: Any) -> str:
    """Plain data as canonical JSON: keys sorted, no spaces, ASCII, floats in the fewest digits that give them back.

    Raises ArgumentError on anything that JSON does not have, NaN and infinity included.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"not plain data: {first_line(error)}") from error


def environment() -> dict[str, Any]:
    """What the bits of a result depend on in this process, beside the task itself."""
    here = {"device": device_name(), "precision": precision(), "blas": blas(), "kernels": kernels()}
    return versions() | here | {"code": code_sha256()}


@dataclasses.dataclass(frozen=True)
class Task:
    """A piece of work: some of the shadow models of a model, or one seed of a comparison or of a family of a sweep.
    text: canonical JSON. where: its file, for messages."""

    text: str
    where: str = "task"

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256, in hex, of the text: the name of the result."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        return json.loads(self.text)

    @property
    def kind(self) -> str:
        """SHADOWS, COMPARISON or SWEEP."""
        return self.content["kind"]

    @property
    def rows(self) -> slice:
        """Of the shadow models of its block, those that the task trains."""
        return slice(*self.content["rows"])

    @property
    def name(self) -> str:
        """For messages and progress: the file and the beginning of the hash."""
        return f"{self.where} ({self.sha256[:12]})"

    def model(self) -> Model:
        """The model whose training is repeated, without its weights."""
        of = self.content
        return Model(build(checked(of["network"]), replicas=0), **of["model"])

    def check_environment(self) -> None:
        """DataError, with the differences, where this process would give other bits."""
        found = differences(self.content["environment"], environment())
        if found:
            raise DataError(
                f"{self.name}: is for another environment: {found}; perform it where it was written, or write it here"
            )


def task_of(model: Model, shadows: int, rows: slice, block: int = 0) -> Task:
    """The task of the shadow models `rows` of K shadows of `model`, those of a block; of the first block they keep
    their outputs, of the others log odds alone."""
    recipe = repeated(model)  # without the outcome of a training: models by the same recipe have the same tasks
    about = {name: getattr(model, name) for name in OF_MODEL} | {"steps": recipe["steps"]}
    return new_task(SHADOWS, {"network": recipe["network"], "model": about} | which(block, shadows, rows))


def which(block: int, shadows: int, rows: slice) -> dict[str, Any]:
    """The fields that tell the tasks of one fleet apart."""
    return {"block": block, "shadows": shadows, "rows": [rows.start, rows.stop]}


def new_task(kind: str, own: dict[str, Any]) -> Task:
    """A task for this environment; own: the fields of its kind. Raises ArgumentError on what is not plain data."""
    return Task(canonical({"format": FORMAT, "kind": kind, "environment": environment()} | own))


def read_task(path: str | os.PathLike) -> Task:
    """The task in a file; spaces, the order of keys and the digits of numbers do not matter.

    Raises DataError, naming the file and the field, where it is no task, VersionError on another format.
    """
    where = printable(path, 400)
    content = read_json(path, REMEDY, object_pairs_hook=_no_key_twice)
    check_task(content, where)
    return Task(canonical(content), where)


def check_task(content: Any, where: str) -> None:
    """DataError, naming `where` and the field, unless it is a task of this version; VersionError on another format."""
    kind = content.get("kind") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in OF_KIND:
        raise DataError(f"{where}: not a task of nanoprune; {REMEDY}")
    if content.get("format") != FORMAT:
        raise VersionError(
            f"{where}: format {printable(content.get('format'), 40)}, this version performs {FORMAT}; {REMEDY}"
        )
    _check_names(content, (*OF_TASK, *OF_KIND[kind]), where)
    if not isinstance(content["environment"], dict):
        raise DataError(f"{where}: environment is not a record; {REMEDY}")
    try:
        (_check_shadows if kind == SHADOWS else _check_training)(content, where)
        canonical(content)
    except ArgumentError as error:
        raise DataError(f"{where}: {error}") from error


def _check_shadows(content: dict[str, Any], where: str) -> None:
    model, block, shadows, rows = (content[name] for name in ("model", "block", "shadows", "rows"))
    check_about(model, where)
    _check_names(model, OF_MODEL, f"{where}: model")
    if type(block) is not int or not 0 <= block < MOST_BLOCKS:
        raise DataError(f"{where}: block is {printable(block, 40)}, expected an integer from 0 to 2^32 - 1")
    if type(shadows) is not int or not FEWEST <= shadows <= BLOCK or shadows % 2:
        raise DataError(
            f"{where}: shadows is {printable(shadows, 40)}, expected an even number from {FEWEST} to {BLOCK}"
        )
    integers = isinstance(rows, list) and len(rows) == 2 and all(type(row) is int for row in rows)
    if not integers or not 0 <= rows[0] < rows[1] <= shadows:
        raise DataError(f"{where}: rows is {printable(rows, 40)}, expected two integers, 0 <= first < end <= {shadows}")
    try:
        checked(content["network"])
    except DAMAGE as error:
        raise DataError(f"{where}: network is not a description of one ({first_line(error)}); {REMEDY}") from error


def _check_training(content: dict[str, Any], where: str) -> None:
    """Of a comparison or a sweep. The recipe is checked when it is performed, beside the data set."""
    for name in OF_KIND[content["kind"]]:
        value = content[name]
        numbers = all(type(of) in (int, float) for of in value) if isinstance(value, list) else True
        if not isinstance(value, TYPES[name]) or isinstance(value, bool) or not numbers:
            raise DataError(f"{where}: {name} is {printable(value, 40)}, not as --plan writes it; {REMEDY}")
    if not 0 <= content["seed"] < 2**64:
        raise DataError(f"{where}: seed is {printable(content['seed'], 40)}, expected 0 to 2^64 - 1; {REMEDY}")


def _check_names(record: dict[str, Any], names: tuple[str, ...], what: str) -> None:
    """DataError unless the record has these fields and no others: one that nobody reads would change the hash alone."""
    for name in (*names, *record):
        if (name in record) != (name in names):
            state = "missing" if name in names else "not a field of a task"
            raise DataError(f"{what}: {printable(name, 40)} is {state}; {REMEDY}")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key stands twice in one record")
    return record
