"""The options that several commands share."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import click

from nanoprune.lab.commands.types import DataSet, Exempt, Members, NetworkName, Threads

EPILOG = "Errors are one line on standard error; the exit status is then 2."
FILE = click.Path(path_type=pathlib.Path)
LARGEST_SEED = 10**15  # results.json holds no larger number
MOST_SEEDS = 1000
OF_RECIPE = "  [default: the recipe's]"


def options(*decorators: Callable) -> Callable:
    """Several options as one decorator, in the order given."""

    def add(command: Callable) -> Callable:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add


dataset_argument = click.argument("dataset", type=DataSet(), metavar="DATASET")
out_option = click.option("--out", required=True, type=FILE, help="The model file to write.")
device_option = click.option(
    "--device",
    default="auto",
    metavar="[cpu|gpu|gpu-tf32|auto]",
    help="Where to compute; gpu-tf32: products with factors rounded to TF32.",
)
threads_option = click.option(
    "--threads", type=Threads(), help="Workers at once.  [default: as many as there are processors]"
)
data_option = click.option(
    "--data-dir", type=FILE, help="Folder with one folder for each data set.  [default: $NANOPRUNE_DATA, else data/]"
)
members_file_option = click.option(
    "--members-file",
    type=FILE,
    help="The records that it was trained on, one place a line, counted from 0.  [default: what the data say]",
)
own_data_option = options(
    click.option(
        "--data", type=DataSet(), help="The data set MODEL was trained on.  [default: what the model file says, here]"
    ),
    members_file_option,
)
machine_options = options(device_option, threads_option, data_option)
split_options = options(
    click.option("--members", type=Members(), help="Size of the training set, or all.  [default: the recipe's]"),
    click.option("--reference", type=int, help="Size of the reference set, which is public.  [default: the recipe's]"),
    click.option("--nonmembers", type=int, help="How many held-out records.  [default: the recipe's]"),
)
game_option = click.option(
    "--minmax",
    type=float,
    metavar="LAMBDA",
    help="Weight of the Min-Max game, 0 for none.  [default: the recipe's in reproduce, else 0]",
)
network_options = options(
    click.option("--network", type=NetworkName(), help="The network's name, see `info`.  [default: the recipe's]"),
    click.option(
        "--width",
        type=float,
        help="Width multiplier of vgg16, mobilenetv2, resnet18, vit, transformer-text.  [default: the recipe's]",
    ),
)
privacy_options = options(
    click.option("--delta", type=float, help="Of DP-SGD's budget; below 1 / members.  [default: the recipe's]"),
    click.option("--clip", type=float, help="Norm that DP-SGD clips gradients to.  [default: the recipe's]"),
)
recipe_options = options(
    click.option(
        "--recipe", "recipe_path", type=FILE, help="JSON of a recipe, or some fields.  [default: the data set's]"
    ),
    click.option("--save-recipe", type=FILE, help="Write the recipe to this .json file.  [default: none]"),
)
scope_option = click.option(
    "--scope",
    type=click.Choice(["layer", "erk", "global"]),
    help="What a ratio is a share of: each layer's weights or (erk, global) all weights together. erk allocates them "
    "across layers by fan-in and fan-out, so that small layers keep more.  [default: the recipe's]",
)
scheme_options = options(
    click.option(
        "--keep-file",
        type=FILE,
        help='JSON with a ratio for each layer, {"conv2": 0.1, "dense1": 0.05}; the others keep all.  [default: none]',
    ),
    click.option(
        "--scheme",
        metavar="SCHEME",
        help="Pruning granularity: unstructured, filter, head, channel, column, block[:B] or N:M such as 2:4.  "
        "[default: unstructured]",
    ),
    click.option(
        "--exempt",
        type=Exempt(),
        help="Layers that a single ratio does not prune, with --scope layer.  "
        "[default: first,last; unstructured: none]",
    ),
)
alpha_option = click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    help="Intervals have confidence 1 - alpha.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Write over files that are there already.")
json_option = click.option(
    "--json", "json_path", type=FILE, help="Write the results to this file; - is standard output.  [default: none]"
)
executor_option = click.option(
    "--executor",
    metavar="[local|mpi|dask://HOST:PORT|dask+tls://HOST:PORT]",
    help="What performs tasks: processes of this machine, an MPI job or a dask cluster.  [default: local]",
)
results_options = options(
    json_option,
    click.option("--report", "page", type=FILE, help="Write a self-contained HTML page.  [default: none]"),
    overwrite_option,
)
verdict_options = options(
    click.option(
        "--prior",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.1,
        help="Share of members among those whom an attacker may accuse, for the verdict's precision.",
    ),
    click.option(
        "--fail-above",
        type=click.Choice(["slight", "clear", "severe"]),
        help="End with exit status 3 where the leak is of this degree or worse, or the audit void.  [default: never]",
    ),
)
resume_options = options(
    click.option("--resume", is_flag=True, help="Resume an interrupted run where it stands; the bits are the same."),
    click.option("--overwrite", is_flag=True, help="Begin again where a run or a file is there already."),
    click.option(
        "--checkpoint-every", type=click.FloatRange(0), default=30.0, metavar="SECONDS", help="Between two checkpoints."
    ),
)
