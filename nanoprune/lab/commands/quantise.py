"""A model file with int8 weights."""

from __future__ import annotations

import pathlib

import click

from nanoprune.backend import use_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.common import check_outputs
from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import EPILOG

HELP = """Round the weights of the model file MODEL to 8 bits, with one scale per output channel.

A scale is the channel's largest magnitude / 127, so no data is used. The result is a model file: `attack` audits it,
and `export --weights int8` exports exactly these weights with that audit.

\b
python cli.py quantise pruned.h5 --out int8.h5
python cli.py attack int8.h5 --json audit.json
python cli.py export int8.h5 --to onnx --weights int8 --audit audit.json --out int8.onnx
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=pathlib.Path))
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="The model file to write.")
@click.option("--overwrite", is_flag=True, help="Overwrite existing files.")
def quantise(model: pathlib.Path, out: pathlib.Path, overwrite: bool) -> None:
    from nanoprune.lab.export.check import compare_classes, logits, probes_of
    from nanoprune.lab.export.quantise import quantised_model
    from nanoprune.lab.models.model import load_model, save_model

    use_device("cpu")
    before = load_model(model)
    check_outputs(model, outputs=[out], overwrite=overwrite)
    if out.exists() and not overwrite:
        raise ArgumentError(f"{out} already exists; --overwrite replaces it, another --out keeps it")
    after = quantised_model(before)
    save_model(after, out)
    x = probes_of(before.net)
    equal = compare_classes(logits(after.net, x), before.net, x)
    click.echo(f"{out}: int8 weights; {100 * equal:.1f}% of {len(x)} random records are in the same class as before")
