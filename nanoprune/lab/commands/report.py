"""The plots, the page and the table again."""

from __future__ import annotations

import pathlib

import click
from rich.console import Console

from nanoprune.lab.commands.options import EPILOG


@click.command(epilog=EPILOG)
@click.argument("folder", type=click.Path(path_type=pathlib.Path))
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def report(folder: pathlib.Path, markdown: bool) -> None:
    """Make the plots and report.html in FOLDER again from its results.json and curves.h5, and print the table.

    \b
    python cli.py report results/digits
    python cli.py report results/digits --markdown
    """
    from nanoprune.lab.experiment.results import read_results
    from nanoprune.lab.report import controls_table, markdown_controls, markdown_table, results_table, write_report

    results = read_results(folder)
    write_report(results, folder)
    if markdown:
        click.echo(markdown_table(results))
        click.echo(markdown_controls(results))
    else:
        for table in filter(None, (results_table(results), controls_table(results))):
            Console().print(table)
