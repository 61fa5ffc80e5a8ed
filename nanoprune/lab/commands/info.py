"""The layers of a network."""

from __future__ import annotations

import json

import click

from nanoprune.lab.commands.console import Command, show, shown
from nanoprune.lab.commands.options import EPILOG
from nanoprune.lab.commands.types import NetworkName

HELP = """Print the layers of NETWORK, a name or a model file: shapes, weights, multiply-accumulates.

For a model file it also prints the nonzero weights and their multiply-accumulates, the training data, and the steps
that made the model. The column NAME has the layer names that --keep-file and --exempt take.

\b
python cli.py info resnet18
python cli.py info mobilenetv2 --input 32 --width 0.5 --json
python cli.py info pruned.h5
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("network", type=NetworkName(), metavar="NETWORK")
@click.option(
    "--input", "side", type=click.IntRange(1), help="Height and width of the images.  [default: the network's usual]"
)
@click.option(
    "--width", type=float, help="Width multiplier of vgg16, mobilenetv2, resnet18, vit, transformer-text.  [default: 1]"
)
@click.option("--classes", type=click.IntRange(1), help="Number of classes.  [default: 1000 for large images, else 10]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(network: str, side: int | None, width: float | None, classes: int | None, as_json: bool) -> None:
    from nanoprune.lab.models.inventory import inventory_of
    from nanoprune.lab.report import inventory_lines, inventory_table

    found = inventory_of(network, side, width, classes)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        safe = shown(found)
        for line in inventory_lines(safe):
            click.echo(line)
        show(inventory_table(safe))
