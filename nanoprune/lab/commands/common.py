"""Shared by commands: reading the data, checking the outputs, writing an audit."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shlex
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from nanoprune.backend import use_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.columns import column_lines
from nanoprune.lab.commands.console import called, show, shown
from nanoprune.lab.storage.text import printable

if TYPE_CHECKING:
    from nanoprune.lab.audit.compare import Comparison
    from nanoprune.lab.engine.run_folder import Run

# not part of how a run is repeated
PATH_OPTIONS = (
    *("--out", "--src", "--data-dir", "--json", "--report", "--cache", "--checkpoint-every", "--save-recipe"),
    *("--store", "--executor", "--per-task"),
)
FLAGS = ("--resume", "--overwrite")
LEAKS = 3  # exit status with --fail-on
STANDARD_OUTPUT = pathlib.Path("-")
LONGEST_NAME = 251  # bytes of a file's name to which ".run" can be added
NOT_MODELS = dict.fromkeys((".npz", ".csv"), "predictions") | {
    ".onnx": "an ONNX model",
    ".safetensors": "weights in the safetensors format",
    ".json": "results",
    ".html": "a page",
}  # suffixes under which no model file is read


def prepare(
    name: str,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
    columns: dict[str, Any],
    table: dict[str, Any] | None = None,
) -> tuple[Any, int]:
    """Choose the device, load the data set; return it with the number of threads.

    columns: what the user says of a table's columns, arguments of `load`. table: of a model, the columns of what it was
    trained on: a table is read like that where the user says nothing.
    """
    from nanoprune.lab.data import load
    from nanoprune.lab.data.catalogue import NAMES
    from nanoprune.lab.data.table_file import is_table, reading_of
    from nanoprune.lab.engine.passes import default_threads

    use_device(device)
    own = name not in NAMES and is_table(name)
    if own and table and not any(columns.values()):
        columns = dataclasses.asdict(reading_of(table))
    dataset = load(name, data_dir, **columns)
    if own and not table:
        for line in column_lines(dataset.table):
            click.echo(line, err=True)
    return dataset, threads or default_threads()


def recipe_from(path: pathlib.Path | None, dataset: Any) -> Any:
    """The recipe in the file `path`, whose missing fields are those of the data set's own; None without a file."""
    from nanoprune.lab.experiment.recipe_file import read_recipe
    from nanoprune.lab.experiment.recipes import usual_recipe

    return read_recipe(path, usual_recipe(dataset)) if path else None


def save_recipe_to(path: pathlib.Path | None, recipe: Any, overwrite: bool) -> None:
    """Write the recipe to the file `path`, if there is one."""
    from nanoprune.lab.experiment.recipe_file import write_recipe

    if path:
        write_recipe(recipe, path, overwrite)
        click.echo(f"{path}: the recipe", err=True)


def named_members(dataset: Any, members: pathlib.Path | None) -> Any:
    """The data set; where the file `members` names its members, with those as its official training set."""
    from nanoprune.lab.data.members import read_members, with_members

    if members is None:
        return dataset
    return with_members(dataset, read_members(members, len(dataset.y)), str(members))


def model_and_records(
    path: pathlib.Path,
    data: str | None,
    members: pathlib.Path | None,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
    columns: dict[str, Any],
) -> tuple[Any, Any, int]:
    """A model file, the records that it was trained on, and the number of threads; the device is chosen.

    data, members: the options --data and --members-file; without the first, what the model file says. columns: see
    `prepare`.
    """
    from nanoprune.lab.models.imported import UNKNOWN, on_records
    from nanoprune.lab.models.model import load_model

    use_device(device)
    model = load_model(path)
    if data is None and model.dataset == UNKNOWN:
        raise ArgumentError(
            f"{path}: was imported without its data; name them with --data, and those that it was trained on with "
            "--members-file or an array `member` of the data file"
        )
    dataset, threads = prepare(data or model.dataset, device, threads, data_dir, columns, model.table)
    dataset = named_members(dataset, members)
    return on_records(model, dataset), dataset, threads


def check_model_file(out: pathlib.Path) -> None:
    """Refuse, before the work, a model file that could not be written after it, or read under that name."""
    from nanoprune.lab.storage.files import check_output

    check_output(out, NOT_MODELS)


@contextlib.contextmanager
def model_run(out: pathlib.Path, resume: bool, overwrite: bool, every: float) -> Iterator[Run]:
    """The run that makes the model file `out`: its folder OUT.run is there until the model is."""
    from nanoprune.lab.engine.run_folder import Run

    check_model_file(out)
    name = out.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".nanoprune-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    with Run(out.with_name(f"{name}.run"), resume, overwrite, every, product=out) as run:
        yield run


def check_outputs(*sources: pathlib.Path, outputs: Iterable[pathlib.Path | None], overwrite: bool) -> None:
    """Refuse to write over what is read, one result over another, or without `overwrite` over what is there."""
    from nanoprune.lab.storage.files import check_output
    from nanoprune.lab.storage.own_files import occupied

    taken = {source.resolve() for source in sources}
    for path in outputs:
        if path is None or path == STANDARD_OUTPUT:
            continue
        if path.resolve() in taken:
            raise ArgumentError(f"{path} is named twice; give every result a file of its own")
        taken.add(path.resolve())
        check_output(path)
        if not overwrite and occupied(path):
            raise ArgumentError(f"{path} already exists; --overwrite replaces it, another name keeps it")


def write_results(value: dict[str, Any], path: pathlib.Path) -> None:
    """Write plain data as JSON to a file, or to standard output where `path` is -."""
    from nanoprune.lab.storage.files import write_json

    if path == STANDARD_OUTPUT:
        click.echo(json.dumps(value, indent=1, allow_nan=False))
    else:
        write_json(value, path)


def deliver(
    results: dict[str, Any],
    curves: dict,
    source: pathlib.Path,
    json_path: pathlib.Path | None,
    page: pathlib.Path | None,
) -> None:
    """Write an audit's files and print its verdict and table: on standard error where the JSON goes to the output."""
    from nanoprune.lab.report import audit_table, audit_verdict, write_audit_page
    from nanoprune.lab.storage.files import file_sha256

    results |= {"source": {"name": printable(source.name), "sha256": file_sha256(source)}, "command": command()}
    if json_path:
        write_results(results, json_path)
    if page:
        write_audit_page(results, curves, page)
    safe = shown(results)
    tell([*safe["verdict"]["sentences"], *audit_verdict(safe)], audit_table(safe), json_path == STANDARD_OUTPUT)


def deliver_comparison(
    compared: Comparison, sources: dict[str, pathlib.Path], json_path: pathlib.Path | None, page: pathlib.Path | None
) -> None:
    """The same for a comparison of the files `sources`, by name."""
    from nanoprune.lab.report import compare_table, compare_verdict, write_comparison_page
    from nanoprune.lab.storage.files import file_sha256

    results = compared.to_dict()
    results |= {"sources": {name: file_sha256(path) for name, path in sources.items()}, "command": command()}
    if json_path:
        write_results(results, json_path)
    if page:
        write_comparison_page(results, compared.curves, page)
    safe = shown(results)
    tell(compare_verdict(safe), compare_table(safe), json_path == STANDARD_OUTPUT)


def exit_status(audits: list[dict[str, Any]], fail_on: str | None) -> int:
    """LEAKS where the verdict of one of the audits is `fail_on` or worse, or void; else 0. Says which on stderr."""
    from nanoprune.lab.audit.verdict import reaches

    found = [results["verdict"]["degree"] for results in audits]
    worse = [degree for degree in found if fail_on and reaches(degree, fail_on)]
    if worse:
        click.echo(f"--fail-on {fail_on}: the verdict is {worse[0]}; exit status {LEAKS}", err=True)
    return LEAKS if worse else 0


def tell(paragraphs: list[str], table: Any, err: bool) -> None:
    """Print paragraphs and a table."""
    for paragraph in paragraphs:
        click.echo(f"{paragraph}\n", err=err)
    show(table, err)


def changed(record: Any, **changes: Any) -> Any:
    """A dataclass with the changes that are not None."""
    return dataclasses.replace(record, **{name: value for name, value in changes.items() if value is not None})


def command() -> str:
    """The command as a reader can repeat it: without the folders of this machine."""
    words, kept = iter(sys.argv[1:]), []
    for word in words:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if option in PATH_OPTIONS:
            if not equals:
                next(words, None)
        elif word not in FLAGS:
            kept.append(f"{option}{equals}{pathlib.Path(value).name if os.sep in value else value}")
    return printable(shlex.join([*called().split(), *kept]), 2000)
