"""The certificate."""

from __future__ import annotations

import sys

import click

from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import EPILOG

HELP = """Check every formula against an independent calculation: the certificate for an auditor.

Gradients against central differences in float64, the fast convolution against nested loops, the projection against all
supports enumerated, ADMM against known solutions, the metrics against counting. One line each: the name, our number,
the other one.
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
