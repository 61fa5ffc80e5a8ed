"""The plots, the page and the tables of finished results."""

from __future__ import annotations

import pathlib

import click

from nanoprune.lab.commands.console import Command, show, shown
from nanoprune.lab.commands.options import EPILOG, FILE

HELP = """Write the plots and report.html in FOLDER again, from its results.json and curves.h5, and print the tables.

\b
python cli.py report results/digits
python cli.py report results/digits --markdown
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("folder", type=FILE)
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
def report(folder: pathlib.Path, markdown: bool) -> None:
    from nanoprune.lab.experiment.results import read_results
    from nanoprune.lab.report import controls_table, markdown_controls, markdown_table, results_table, write_report

    results = read_results(folder)
    write_report(results, folder)
    if markdown:
        click.echo(markdown_table(shown(results)))
        click.echo(markdown_controls(shown(results)))
    else:
        for table in filter(None, (results_table(shown(results)), controls_table(shown(results)))):
            show(table)
