"""Import of networks that were trained elsewhere."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nanoprune.backend import use_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.common import check_model_file, check_outputs, named_members
from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import EPILOG, FILE, data_option, members_file_option, out_option, overwrite_option
from nanoprune.lab.commands.types import DataSet, ImportedNetwork, Numbers

HELP = """Import FILE, a network that was trained elsewhere, into a model file. Its outputs are the same up to rounding.

FILE is ONNX, as PyTorch's exporters and `export` write it (extra onnx): a sequence of dense layers, convolutions,
BatchNorm, ReLU, ReLU6, Tanh, max and average pooling, flatten and dropout, with residual blocks. Or FILE has weights in
the safetensors format (extra import): of torchvision's vgg16_bn, mobilenet_v2 or resnet18, recognised by their names;
of an MLP or a LeNet-5, recognised by their shapes; or what `export` wrote.

\b
python cli.py import mine.onnx --data mine.npz --members-file ids.txt --out mine.h5
python cli.py import resnet18.safetensors --network resnet18 --out resnet18.h5 \\
    --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
python cli.py import vgg.safetensors --network vgg16 --input 32 --data cifar10 --out vgg16.h5
"""


@click.command("import", cls=Command, help=HELP, epilog=EPILOG)
@click.argument("weights", metavar="FILE", type=FILE)
@click.option(
    "--network",
    type=ImportedNetwork(),
    help="safetensors: vgg16, mobilenetv2, resnet18, mlp or lenet-5.  [default: as `export` wrote it into FILE]",
)
@out_option
@overwrite_option
@click.option(
    "--input",
    "side",
    type=click.IntRange(1, 100_000),
    help="Height and width of the images.  [default: that in FILE, else 224]",
)
@click.option("--width", type=float, help="Width multiplier.  [default: that of the weights]")
@click.option(
    "--mean", type=Numbers(), help="Channel means by which images in [0, 1] are standardised.  [default: none]"
)
@click.option("--std", type=Numbers(), help="Channel standard deviations, with --mean.  [default: none]")
@click.option(
    "--data",
    "dataset",
    type=DataSet(),
    help="Data it was trained on: all of the official training set, or the members that a file names.  "
    "[default: unknown]",
)
@members_file_option
@click.option(
    "--epochs", type=click.IntRange(1), help="Epochs it was trained for, for shadow models.  [default: unknown]"
)
@click.option(
    "--batch", type=click.IntRange(1), help="Batch size it was trained with, for shadow models.  [default: unknown]"
)
@click.option("--lr", type=float, help="Learning rate it was trained with, for shadow models.  [default: unknown]")
@data_option
def import_(
    weights: pathlib.Path,
    network: str | None,
    out: pathlib.Path,
    overwrite: bool,
    side: int | None,
    width: float | None,
    mean: list[float] | None,
    std: list[float] | None,
    dataset: str | None,
    members_file: pathlib.Path | None,
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    data_dir: pathlib.Path | None,
) -> None:
    from nanoprune.lab.data import load
    from nanoprune.lab.models.model import save_model
    from nanoprune.lab.models.steps import check_steps
    from nanoprune.lab.workflow.single_model import summary_line, with_accuracy

    use_device("cpu")
    check_model_file(out)
    check_outputs(weights, outputs=[out], overwrite=overwrite)
    if (mean is None) != (std is None):
        raise ArgumentError("--mean and --std must be given together")
    check_standardisation(mean, std)
    standardise = None if mean is None else [mean, std]
    if members_file and not dataset:
        raise ArgumentError("--members-file names records of a data set: give --data too")
    data = named_members(load(dataset, data_dir), members_file) if dataset else None
    stated = {"epochs": epochs, "batch": batch, "lr": lr}
    training = {name: value for name, value in stated.items() if value is not None}
    model, notes = read_model(weights, network, side, width, standardise, data, training)
    check_steps(model.steps, str(weights))
    model = model if data is None else with_accuracy(model, data)
    save_model(model, out)
    about = model.net.description
    click.echo(f"{out}: {about['network']}, {model.net.size:,} parameters, {model.net.output_shape[0]} classes")
    for note in notes:
        click.echo(note)
    if data is not None:
        click.echo(summary_line(model, data))


def read_model(
    path: pathlib.Path,
    network: str | None,
    side: int | None,
    width: float | None,
    standardise: list[list[float]] | None,
    data: Any,
    training: dict[str, Any],
) -> tuple[Any, list[str]]:
    """The model, and what its user should know of it. Refuses options that the kind of file has no use for."""
    from nanoprune.lab.export.safetensors import import_exported
    from nanoprune.lab.models.onnx_import import import_onnx
    from nanoprune.lab.models.torchvision import import_model

    if path.suffix.lower() == ".onnx":
        if network is not None or width is not None:
            raise ArgumentError(f"{path}: an ONNX file says its layers itself; leave out --network and --width")
        return import_onnx(path, side, standardise, data, training)
    if network is not None:
        return import_model(path, network, side, width, standardise, data, training), []
    if not side is width is standardise is None:
        raise ArgumentError(f"{path}: --input, --width, --mean and --std are for a network that --network names")
    return import_exported(path, data, training), []


def check_standardisation(mean: list[float] | None, std: list[float] | None) -> None:
    """Refuse means and deviations that no image in [0, 1] can have: those of images in [0, 255] are 255 times larger.

    A variable in [0, 1] has a mean m in [0, 1] and a standard deviation of at most sqrt(m (1 - m)) <= 1/2.
    """
    for name, values, most in (("mean", mean, 1.0), ("std", std, 0.5)):
        for value in values or []:
            if not 0 <= value <= most:
                where = f"; of images in [0, 255] it is {value / 255:.4g} here" if value <= 255 * most else ""
                raise ArgumentError(f"--{name} {value:g}: images are in [0, 1], where it is at most {most:g}{where}")
