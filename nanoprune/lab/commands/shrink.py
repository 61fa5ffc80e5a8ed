"""A model file without the units that it does not need."""

from __future__ import annotations

import pathlib

import click
from rich.console import Console

from nanoprune.backend import use_device
from nanoprune.lab.commands.common import check_file
from nanoprune.lab.commands.options import EPILOG, device_option


@click.command(epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=pathlib.Path))
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="The model file to write.")
@device_option
def shrink(model: pathlib.Path, out: pathlib.Path, device: str) -> None:
    """Write the network of the model file MODEL without the units that it no longer needs: smaller, the same outputs.

    Those are the units that no weight reads (`prune --scheme channel`) and those without a weight (`--scheme filter`),
    whose constant outputs go into the biases of the next layer. Prints what is left of each layer.

    
    python cli.py prune lenet5.h5 --scheme filter --keep 0.5 --out filters.h5
    python cli.py shrink filters.h5 --out small.h5
    """
    from nanoprune.lab.models.model import load_model, save_model
    from nanoprune.lab.report import cost_table
    from nanoprune.lab.workflow.single_model import shrunk
    from nanoprune.lab.zoo import widths_of
    from nanoprune.lab.zoo.cost import costs

    use_device(device)
    before = load_model(model)
    check_file(out)
    after = shrunk(before)
    save_model(after, out)
    Console().print(cost_table(costs(after.net)))
    widths, narrow = (widths_of(of.net.description) for of in (before, after))
    click.echo(
        f"widths {widths} to {narrow}, parameters {before.net.size:,} to {after.net.size:,} "
        f"({before.net.size / after.net.size:.1f}x)"
    )
