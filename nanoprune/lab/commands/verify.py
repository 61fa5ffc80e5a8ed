"""The certificate: checks of every formula."""

from __future__ import annotations

import sys

import click

from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import EPILOG

HELP = """Check every formula against an independent calculation, and print both numbers.

Gradients are compared with central differences in float64, the fast convolution with nested loops, the projection with
an enumeration of all supports, ADMM with known solutions, the metrics with counting. Each check prints one line: its
name, nanoprune's number, the independent number.
"""


@click.command(cls=Command, help=HELP, epilog="Exit status 1 if a check fails. " + EPILOG)
def verify() -> None:
    from nanoprune.lab.verify import run

    failed = 0
    for check in run():
        click.echo(check.line())
        failed += not check.passed
    click.echo(f"{failed} of the checks failed" if failed else "all checks passed")
    sys.exit(1 if failed else 0)
