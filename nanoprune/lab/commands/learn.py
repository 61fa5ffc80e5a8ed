"""The exercises of the book."""

from __future__ import annotations

import pathlib
import sys

import click

from nanoprune.lab.commands.console import Command, Commands
from nanoprune.lab.commands.options import EPILOG

HELP = """Check the exercises of the book (book/, built by `make book`).

\b
python cli.py learn check 3              book/exercises/03_*.py
python cli.py learn check 3 mine.py      another file with the same functions
"""

CHECK = """Grade the answers to one chapter: what is right, and what is wrong where.

FILE is run as Python. Without one it is the chapter's file in book/exercises.
"""


@click.group(cls=Commands, help=HELP, epilog=EPILOG)
def learn() -> None:
    pass


@learn.command(cls=Command, help=CHECK, epilog="Exit status 1 unless everything is right. " + EPILOG)
@click.argument("chapter", type=click.IntRange(1, 12))
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=pathlib.Path))
def check(chapter: int, file: pathlib.Path | None) -> None:
    from nanoprune.lab.exercises import report

    lines, passed = report(chapter, file)
    click.echo("\n".join(lines))
    sys.exit(0 if passed else 1)
