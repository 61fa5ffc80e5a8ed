"""Weights of others."""

from __future__ import annotations

import pathlib

import click

from nanoprune.backend import use_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.common import check_model_file, check_outputs
from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import EPILOG, FILE, data_option, out_option, overwrite_option
from nanoprune.lab.commands.types import DataSet, Numbers

HELP = """Make a model file of FILE, weights in the safetensors format with torchvision's names.

Its outputs are those of torchvision's vgg16_bn, mobilenet_v2 or resnet18 on the same inputs. The package safetensors
comes with the extra import.

\b
python cli.py import resnet18.safetensors --network resnet18 --out resnet18.h5 \\
    --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
python cli.py import vgg.safetensors --network vgg16 --input 32 --dataset cifar10 --out vgg16.h5
"""


@click.command("import", cls=Command, help=HELP, epilog=EPILOG)
@click.argument("weights", metavar="FILE", type=FILE)
@click.option("--network", help="vgg16, mobilenetv2 or resnet18.  [default: what `export` wrote into FILE]")
@out_option
@overwrite_option
@click.option("--input", "side", type=click.IntRange(1), default=224, help="Side of the images.")
@click.option("--width", type=float, default=1.0, help="Width multiplier.")
@click.option("--mean", type=Numbers(), help="Of each channel of images in [0, 1], if standardised.  [default: not]")
@click.option("--std", type=Numbers(), help="Their standard deviations.  [default: not]")
@click.option(
    "--dataset",
    type=DataSet(),
    help="What it was trained on: the official training set. `prune` needs it.  [default: unknown]",
)
@data_option
def import_(
    weights: pathlib.Path,
    network: str | None,
    out: pathlib.Path,
    overwrite: bool,
    side: int,
    width: float,
    mean: list[float] | None,
    std: list[float] | None,
    dataset: str | None,
    data_dir: pathlib.Path | None,
) -> None:
    from nanoprune.lab.data import load
    from nanoprune.lab.export.safetensors import import_exported
    from nanoprune.lab.models.model import save_model
    from nanoprune.lab.models.torchvision import import_model

    use_device("cpu")
    check_model_file(out)
    check_outputs(weights, outputs=[out], overwrite=overwrite)
    if (mean is None) != (std is None):
        raise ArgumentError("--mean and --std must be given together")
    check_standardisation(mean, std)
    standardise = None if mean is None else [mean, std]
    data = load(dataset, data_dir) if dataset else None
    if network is None:
        model = import_exported(weights, data)
    else:
        model = import_model(weights, network, side, width, standardise, data)
    save_model(model, out)
    click.echo(
        f"{out}: {model.net.description['network']}, {model.net.size:,} parameters, {model.net.output_shape[0]} classes"
    )


def check_standardisation(mean: list[float] | None, std: list[float] | None) -> None:
    """Refuse means and deviations that no image in [0, 1] can have: those of images in [0, 255] are 255 times larger.

    A variable in [0, 1] has a mean m in [0, 1] and a standard deviation of at most sqrt(m (1 - m)) <= 1/2.
    """
    for name, values, most in (("mean", mean, 1.0), ("std", std, 0.5)):
        for value in values or []:
            if not 0 <= value <= most:
                where = f"; of images in [0, 255] it is {value / 255:.4g} here" if value <= 255 * most else ""
                raise ArgumentError(f"--{name} {value:g}: images are in [0, 1], where it is at most {most:g}{where}")
