"""The options that several commands share."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import click

from nanoprune.lab.commands.console import Exempt, Members

EPILOG = "Errors are one line on standard error; the exit status is then 2."


def options(*decorators: Callable) -> Callable:
    """Several options as one decorator, in the order given."""

    def add(command: Callable) -> Callable:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="[cpu|gpu|gpu-tf32|auto]",
    help="Where to compute; gpu-tf32: products with factors rounded to TF32.",
)
threads_option = click.option("--threads", type=click.IntRange(1), help="Workers at once.  [default: the processors]")
data_option = click.option(
    "--data-dir",
    type=click.Path(path_type=pathlib.Path),
    help="Folder with one folder for each data set.  [default: $NANOPRUNE_DATA, else data/]",
)
machine_options = options(device_option, threads_option, data_option)
members_option = click.option("--members", type=Members(), help="Size of the training set, or all.")
split_options = options(
    members_option,
    click.option("--reference", type=int, help="Size of the reference set, which is public."),
    click.option("--nonmembers", type=int, help="How many held-out records."),
)
game_option = click.option(
    "--minmax",
    type=float,
    metavar="LAMBDA",
    help="Weight of the Min-Max game, 0 for none.  [default: the recipe's in reproduce, else 0]",
)


network_options = options(
    click.option("--network", help="A network's name: see `info`.  [default: the recipe's]"),
    click.option(
        "--width", type=float, help="Width multiplier of vgg16, mobilenetv2 and resnet18.  [default: the recipe's]"
    ),
)
privacy_options = options(
    click.option("--delta", type=float, help="Of DP-SGD's budget.  [default: the recipe's]"),
    click.option("--clip", type=float, help="Norm that DP-SGD clips gradients to.  [default: the recipe's]"),
)
scope_option = click.option(
    "--scope",
    type=click.Choice(["layer", "erk", "global"]),
    help="Is a ratio of each layer or of all weights together? erk: of all, dealt out so that small layers keep more.  "
    "[default: the recipe's]",
)
scheme_options = options(
    click.option(
        "--keep-file",
        type=click.Path(path_type=pathlib.Path),
        help='JSON with a share for each layer, {"conv2": 0.1, "dense1": 0.05}; the others keep all.',
    ),
    click.option(
        "--scheme",
        metavar="SCHEME",
        help="What lives or dies together: unstructured, filter, channel, column, block[:B] or N:M such as 2:4.  "
        "[default: unstructured]",
    ),
    click.option(
        "--exempt",
        type=Exempt(),
        help="Layers that one ratio leaves whole, with --scope layer.  [default: first,last; unstructured: none]",
    ),
)


alpha_option = click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Intervals have confidence 1 - alpha.",
)

resume_options = options(
    click.option("--resume", is_flag=True, help="Go on where an interrupted run was, with the same bits."),
    click.option("--overwrite", is_flag=True, help="Begin again where there is a run already."),
    click.option(
        "--checkpoint-every",
        type=click.FloatRange(0),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="Between two checkpoints.",
    ),
)
