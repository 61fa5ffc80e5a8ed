"""What several commands do: read the data, check the outputs, deliver an audit."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from nanoprune.backend import use_device
from nanoprune.errors import ArgumentError

if TYPE_CHECKING:
    from nanoprune.lab.engine.folder import Run

# not part of how a run is repeated
PATH_OPTIONS = ("--out", "--src", "--data-dir", "--json", "--report", "--cache", "--checkpoint-every")
FLAGS = ("--resume", "--overwrite")


def prepare(name: str, device: str, threads: int | None, data_dir: pathlib.Path | None) -> tuple[Any, int]:
    """Choose the device, load the data set; return it with the number of threads."""
    from nanoprune.lab.data import load
    from nanoprune.lab.engine.passes import default_threads

    use_device(device)
    return load(name, data_dir), threads or default_threads()


def check_file(out: pathlib.Path) -> None:
    """Refuse, before the work, a model file that could not be written after it."""
    from nanoprune.lab.storage.files import check_writable

    if out.is_dir():
        raise ArgumentError(f"{out} is a folder; name the file to write")
    check_writable(out.parent)


@contextlib.contextmanager
def model_run(out: pathlib.Path, resume: bool, overwrite: bool, every: float) -> Iterator[Run]:
    """The run that makes the model file `out`: its folder OUT.run, which is there until the model is."""
    from nanoprune.lab.engine.folder import Run

    check_file(out)
    folder = out.with_name(f"{out.name}.run")
    if out.exists() and not overwrite and not (resume and folder.exists()):
        raise ArgumentError(f"{out} is there already; --overwrite makes it again, another --out leaves it alone")
    with Run(folder, resume, overwrite, every, temporary=True) as run:
        yield run
        run.finish()


def check_outputs(source: pathlib.Path, *outputs: pathlib.Path | None) -> None:
    """Refuse to write over what is read, or one result over the other."""
    taken = {source.resolve()}
    for path in filter(None, outputs):
        if path.resolve() in taken:
            raise ArgumentError(f"{path} is named twice; give every result a file of its own")
        taken.add(path.resolve())
        check_file(path)


def deliver(
    results: dict[str, Any],
    curves: dict,
    source: pathlib.Path,
    json_path: pathlib.Path | None,
    page: pathlib.Path | None,
) -> None:
    """Write an audit's files and print its verdict and table."""
    from nanoprune.lab.audit import write_audit
    from nanoprune.lab.audit.predictions import file_sha256
    from nanoprune.lab.report import audit_table, audit_verdict, write_audit_page

    results |= {"source": {"name": source.name, "sha256": file_sha256(source)}, "command": command()}
    if json_path:
        write_audit(results, json_path)
    if page:
        write_audit_page(results, curves, page)
    for paragraph in audit_verdict(results):
        click.echo(f"{paragraph}\n")
    Console().print(audit_table(results))


def changed(record: Any, **changes: Any) -> Any:
    """A dataclass with the changes that are not None."""
    return dataclasses.replace(record, **{name: value for name, value in changes.items() if value is not None})


def command() -> str:
    """The command as a reader can repeat it: without the folders of this machine."""
    words, kept = iter(sys.argv[1:]), []
    for word in words:
        if word in PATH_OPTIONS:
            next(words, None)
        elif word not in FLAGS and not word.startswith(tuple(f"{option}=" for option in PATH_OPTIONS)):
            kept.append(pathlib.Path(word).name if os.sep in word else word)
    return shlex.join(["python", "cli.py", *kept])
