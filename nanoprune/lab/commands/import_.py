"""Weights of others."""

from __future__ import annotations

import pathlib

import click

from nanoprune.backend import use_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.common import check_outputs
from nanoprune.lab.commands.console import Numbers
from nanoprune.lab.commands.options import EPILOG, data_option


@click.command("import", epilog=EPILOG)
@click.argument("weights", metavar="FILE", type=click.Path(path_type=pathlib.Path))
@click.option("--network", help="vgg16, mobilenetv2 or resnet18.  [default: what `export` wrote into FILE]")
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="The model file to write.")
@click.option("--input", "side", type=click.IntRange(1), default=224, show_default=True, help="Side of the images.")
@click.option("--width", type=float, default=1.0, show_default=True, help="Width multiplier.")
@click.option("--mean", type=Numbers(), help="Of each channel of its images, where those were standardised.")
@click.option("--std", type=Numbers(), help="Their standard deviations.")
@click.option("--dataset", help="What it was trained on: the official training set. `prune` needs to know.")
@data_option
def import_(
    weights: pathlib.Path,
    network: str | None,
    out: pathlib.Path,
    side: int,
    width: float,
    mean: list[float] | None,
    std: list[float] | None,
    dataset: str | None,
    data_dir: pathlib.Path | None,
) -> None:
    """Make a model file of FILE, weights in the safetensors format with torchvision's names.

    Its outputs are those of torchvision's vgg16_bn, mobilenet_v2 or resnet18 on the same inputs. The package
    safetensors comes with the extra import.

    \b
    python cli.py import resnet18.safetensors --network resnet18 --out resnet18.h5 \\
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
    python cli.py import vgg.safetensors --network vgg16 --input 32 --dataset cifar10 --out vgg16.h5
    """
    from nanoprune.lab.data import load
    from nanoprune.lab.export.safetensors import import_exported
    from nanoprune.lab.models.model import save_model
    from nanoprune.lab.models.torchvision import import_model

    use_device("cpu")
    check_outputs(weights, out)
    if (mean is None) != (std is None):
        raise ArgumentError("--mean and --std must be given together")
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
