"""What several commands do: read the data, check the outputs, hand over an audit."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from nanoprune.backend import use_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.console import called, show, shown
from nanoprune.lab.storage.text import printable

if TYPE_CHECKING:
    from nanoprune.lab.engine.folder import Run

# not part of how a run is repeated
PATH_OPTIONS = ("--out", "--src", "--data-dir", "--json", "--report", "--cache", "--checkpoint-every")
FLAGS = ("--resume", "--overwrite")
LONGEST_NAME = 251  # bytes of a file's name to which ".run" can be added
NOT_MODELS = dict.fromkeys((".npz", ".csv"), "predictions") | {
    ".onnx": "an ONNX model",
    ".safetensors": "weights in the safetensors format",
    ".json": "results",
    ".html": "a page",
}  # suffixes under which no model file is read


def prepare(name: str, device: str, threads: int | None, data_dir: pathlib.Path | None) -> tuple[Any, int]:
    """Choose the device, load the data set; return it with the number of threads."""
    from nanoprune.lab.data import load
    from nanoprune.lab.engine.passes import default_threads

    use_device(device)
    return load(name, data_dir), threads or default_threads()


def load_records(name: str, members: pathlib.Path | None, data_dir: pathlib.Path | None) -> Any:
    """The data set `name`; where a file names its members, with those as its official training set."""
    from nanoprune.lab.data import load
    from nanoprune.lab.data.members import read_members, with_members

    data = load(name, data_dir)
    return data if members is None else with_members(data, read_members(members, len(data.y)), str(members))


def model_and_records(
    path: pathlib.Path,
    data: str | None,
    members: pathlib.Path | None,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
) -> tuple[Any, Any, int]:
    """A model file, the records that it was trained on, and the number of threads; the device is chosen.

    data, members: the options --data and --members-file; without the first, what the model file says.
    """
    from nanoprune.lab.engine.passes import default_threads
    from nanoprune.lab.models.imported import UNKNOWN, on_records
    from nanoprune.lab.models.model import load_model

    use_device(device)
    model = load_model(path)
    if data is None and model.dataset == UNKNOWN:
        raise ArgumentError(
            f"{path}: was imported without its data; name them with --data, and those that it was trained on with "
            "--members-file or an array `member` of the data file"
        )
    dataset = load_records(data or model.dataset, members, data_dir)
    return on_records(model, dataset), dataset, threads or default_threads()


def check_model_file(out: pathlib.Path) -> None:
    """Refuse, before the work, a model file that could not be written after it, or read under that name."""
    from nanoprune.lab.storage.files import check_output

    check_output(out, NOT_MODELS)


@contextlib.contextmanager
def model_run(out: pathlib.Path, resume: bool, overwrite: bool, every: float) -> Iterator[Run]:
    """The run that makes the model file `out`: its folder OUT.run is there until the model is."""
    from nanoprune.lab.engine.folder import Run

    check_model_file(out)
    name = out.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".nanoprune-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    with Run(out.with_name(f"{name}.run"), resume, overwrite, every, product=out) as run:
        yield run


def check_outputs(source: pathlib.Path, *outputs: pathlib.Path | None, overwrite: bool) -> None:
    """Refuse to write over what is read, one result over another, or without `overwrite` over what is there."""
    from nanoprune.lab.storage.files import check_output
    from nanoprune.lab.storage.own_files import occupied

    taken = {source.resolve()}
    for path in filter(None, outputs):
        if path.resolve() in taken:
            raise ArgumentError(f"{path} is named twice; give every result a file of its own")
        taken.add(path.resolve())
        check_output(path)
        if not overwrite and occupied(path):
            raise ArgumentError(f"{path} is there already; --overwrite writes over it, another name leaves it alone")


def deliver(
    results: dict[str, Any],
    curves: dict,
    source: pathlib.Path,
    json_path: pathlib.Path | None,
    page: pathlib.Path | None,
) -> None:
    """Write an audit's files and print its verdict and table."""
    from nanoprune.lab.audit import write_audit
    from nanoprune.lab.report import audit_table, audit_verdict, write_audit_page
    from nanoprune.lab.storage.files import file_sha256

    results |= {"source": {"name": printable(source.name), "sha256": file_sha256(source)}, "command": command()}
    if json_path:
        write_audit(results, json_path)
    if page:
        write_audit_page(results, curves, page)
    safe = shown(results)
    for paragraph in audit_verdict(safe):
        click.echo(f"{paragraph}\n")
    show(audit_table(safe))


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
