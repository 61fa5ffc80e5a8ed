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
    help="Device to compute on; gpu-tf32 rounds the factors of matrix products to TF32.",
)
threads_option = click.option(
    "--threads", type=Threads(), help="Number of parallel workers.  [default: the number of processors]"
)
data_option = click.option(
    "--data-dir", type=FILE, help="Folder with a subfolder for each data set.  [default: $NANOPRUNE_DATA, else data/]"
)
members_file_option = click.option(
    "--members-file",
    type=FILE,
    help="Text file with the indices of the training records, one per line, from 0.  [default: taken from the data]",
)
own_data_option = options(
    click.option(
        "--data",
        type=DataSet(),
        help="Data set that MODEL was trained on.  [default: the one that the model file names]",
    ),
    members_file_option,
)
machine_options = options(device_option, threads_option, data_option)
split_options = options(
    click.option(
        "--members", type=Members(), help="Number of members (training records), or all.  [default: the recipe's]"
    ),
    click.option("--reference", type=int, help="Size of the public reference set.  [default: the recipe's]"),
    click.option("--nonmembers", type=int, help="Number of held-out non-members.  [default: the recipe's]"),
)
game_option = click.option(
    "--minmax",
    type=float,
    metavar="LAMBDA",
    help="Weight lambda of the Min-Max game; 0 turns it off.  "
    "[default: the recipe's in reproduce and with --recipe, else 0]",
)
network_options = options(
    click.option(
        "--network", type=NetworkName(), help="Name of the network; `info NAME` describes it.  [default: the recipe's]"
    ),
    click.option(
        "--width",
        type=float,
        help="Width multiplier of vgg16, mobilenetv2, resnet18, vit, transformer-text.  [default: the recipe's]",
    ),
)
privacy_options = options(
    click.option("--delta", type=float, help="delta of DP-SGD's budget, below 1 / members.  [default: the recipe's]"),
    click.option("--clip", type=float, help="Clipping norm of DP-SGD.  [default: the recipe's]"),
)
recipe_options = options(
    click.option(
        "--recipe",
        "recipe_path",
        type=FILE,
        help="JSON file with a recipe, or with some of its fields.  [default: the data set's]",
    ),
    click.option("--save-recipe", type=FILE, help="Write the recipe that is used to this .json file.  [default: none]"),
)
scope_option = click.option(
    "--scope",
    type=click.Choice(["layer", "erk", "global"]),
    help="Whether the keep ratio applies to each layer or to all weights together (erk, global). erk allocates them "
    "across layers by fan-in and fan-out, so that small layers keep a larger share.  [default: the recipe's]",
)
scheme_options = options(
    click.option(
        "--keep-file",
        type=FILE,
        help='JSON file with keep ratios by layer, {"conv2": 0.1, "dense1": 0.05}; other layers are not pruned.  '
        "[default: none]",
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
        help="Layers that a single keep ratio does not prune, with --scope layer.  "
        "[default: first,last; unstructured: none]",
    ),
)
alpha_option = click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    help="Intervals and bounds have confidence 1 - alpha.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Overwrite existing files.")
json_option = click.option(
    "--json", "json_path", type=FILE, help="Write the results as JSON; - is standard output.  [default: none]"
)
executor_option = click.option(
    "--executor",
    metavar="[local|mpi|dask://HOST:PORT|dask+tls://HOST:PORT]",
    help="Where tasks run: in processes of this machine, an MPI job or a dask cluster.  [default: local]",
)
results_options = options(
    json_option,
    click.option("--report", "page", type=FILE, help="Write the results as one HTML page.  [default: none]"),
    overwrite_option,
)
verdict_options = options(
    click.option(
        "--prior",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.1,
        help="Prior probability that a record is a member, for the precision of the attack.",
    ),
    click.option(
        "--fail-on",
        type=click.Choice(["slight", "clear", "severe"]),
        help="Exit with status 3 if the leak is of this degree or worse, or the audit is void.  [default: never]",
    ),
)
resume_options = options(
    click.option("--resume", is_flag=True, help="Resume an interrupted run; the results are the same, bit for bit."),
    click.option("--overwrite", is_flag=True, help="Replace an existing run or file."),
    click.option(
        "--checkpoint-every",
        type=click.FloatRange(0),
        default=30.0,
        metavar="SECONDS",
        help="Least time between two checkpoints.",
    ),
)
