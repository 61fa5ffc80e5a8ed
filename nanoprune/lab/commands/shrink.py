"""Removal of units that do not affect a model file's outputs."""

from __future__ import annotations

import pathlib

import click

from nanoprune.backend import use_device
from nanoprune.lab.commands.common import check_model_file, check_outputs
from nanoprune.lab.commands.console import Command, show, shown
from nanoprune.lab.commands.options import EPILOG, FILE, device_option, out_option, overwrite_option

HELP = """Remove units from the network of the model file MODEL that do not affect its outputs.

These are units whose outgoing weights are all pruned (`prune --scheme channel`), and units whose incoming weights are
all pruned (`--scheme filter`): their constant outputs are added to the biases of the next layer. Prints the remaining
weights and multiply-accumulates of each layer.

\b
python cli.py prune lenet5.h5 --scheme filter --keep 0.5 --out filters.h5
python cli.py shrink filters.h5 --out small.h5
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("model", type=FILE)
@out_option
@overwrite_option
@device_option
def shrink(model: pathlib.Path, out: pathlib.Path, overwrite: bool, device: str) -> None:
    from nanoprune.lab.models.model import load_model, save_model
    from nanoprune.lab.report import cost_table
    from nanoprune.lab.workflow.single_model import shrunk
    from nanoprune.lab.zoo import widths_of
    from nanoprune.lab.zoo.cost import costs

    use_device(device)
    before = load_model(model)
    check_model_file(out)
    check_outputs(model, outputs=[out], overwrite=overwrite)
    after = shrunk(before)
    save_model(after, out)
    show(cost_table(shown(costs(after.net))))
    widths, narrow = (widths_of(of.net.description) for of in (before, after))
    click.echo(
        f"widths {widths} to {narrow}, parameters {before.net.size:,} to {after.net.size:,} "
        f"({before.net.size / after.net.size:.1f}x)"
    )
