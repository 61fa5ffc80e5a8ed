"""Fetching and packing of data sets."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import click

from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.columns import column_options, data_lines, data_record
from nanoprune.lab.commands.console import Commands, ProgressBars
from nanoprune.lab.commands.options import EPILOG, data_option, dataset_argument, threads_option
from nanoprune.lab.commands.types import DataSet

DESCRIBE_HELP = """Show how DATASET is read: records, classes, groups, and for a table the kind of each column.

\b
python cli.py data describe mine.npz
python cli.py data describe patients.csv --label readmitted --group patient_nbr
"""

FETCH_HELP = """Download data set NAME and check it.

The SHA-256 is checked, or every record where no SHA-256 is known. Only files that pass appear in the data folder.

\b
python cli.py data fetch mnist
python cli.py data fetch cifar10 --data-dir ~/data
"""


PACK_HELP = """Pack the JPEG files of data set NAME (imagenet) into one file that is read in chunks.

DIR holds CLASS/*.JPEG, or train/CLASS/*.JPEG and val/CLASS/*.JPEG. The shorter side is resized to 256 pixels, and the
central 224 x 224 are kept. Files that are not JPEG data are skipped and listed. The same command resumes an interrupted
packing. Needs the extra `images`.

\b
python cli.py data pack imagenet --src DIR --out data/imagenet/imagenet.h5
"""


@click.group(cls=Commands, help="Describe, fetch and pack data sets.")
def data() -> None:
    pass


@data.command(help=DESCRIBE_HELP, epilog=EPILOG)
@dataset_argument
@column_options
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def describe(dataset: str, data_dir: pathlib.Path | None, as_json: bool, columns: dict[str, Any]) -> None:
    from nanoprune.lab.data import load

    found = load(dataset, data_dir, **columns)
    if as_json:
        click.echo(json.dumps(data_record(found), indent=1))
    else:
        for line in data_lines(found):
            click.echo(line)


@data.command(help=FETCH_HELP, epilog=EPILOG)
@click.argument("name", type=DataSet())
@data_option
@click.option(
    "--mirror",
    multiple=True,
    metavar="URL",
    help="Download from this address; may be repeated.  [default: the known sources]",
)
def fetch(name: str, data_dir: pathlib.Path | None, mirror: tuple[str, ...]) -> None:
    from nanoprune.lab.data import fetch as download
    from nanoprune.lab.data import find_data_dir

    with ProgressBars() as progress:
        paths = download(name, data_dir, mirrors=list(mirror) or None, progress=progress.reach)
    for path in paths:
        click.echo(f"{path}: fetched and checked")
    if not paths:
        place = "comes with nanoprune" if name == "digits" else f"is in {find_data_dir(data_dir) / name} already"
        click.echo(f"{name} {place}")


@data.command("pack", help=PACK_HELP, epilog=EPILOG)
@click.argument("name")
@click.option(
    "--src", required=True, type=click.Path(path_type=pathlib.Path), help="Folder that holds the class folders."
)
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="The HDF5 file to write.")
@threads_option
def pack_images(name: str, src: pathlib.Path, out: pathlib.Path, threads: int | None) -> None:
    from nanoprune.lab.data.pack import find_images, pack
    from nanoprune.lab.engine.passes import default_threads
    from nanoprune.lab.storage.text import printable

    if name != "imagenet":
        raise ArgumentError(f"data set must be imagenet, got {name!r}; the others need no packing")
    source = find_images(src)
    with ProgressBars() as progress:
        kept, broken = pack(
            source,
            out,
            threads or default_threads(),
            lambda done, total: progress.reach("pack", done, total),
            lambda path: click.echo(f"{printable(src / path, 400)}: broken, skipped", err=True),
            lambda done, total: progress.reach("read back", done, total),
        )
    click.echo(f"{printable(out, 400)}: {kept} images of {len(source.classes)} classes, {broken} broken ones skipped")
