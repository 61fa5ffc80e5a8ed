"""Training of one dense network."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import click

from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.columns import column_options
from nanoprune.lab.commands.common import changed, model_run, prepare, recipe_from, save_recipe_to
from nanoprune.lab.commands.console import Command, ProgressBars
from nanoprune.lab.commands.options import (
    EPILOG,
    LARGEST_SEED,
    dataset_argument,
    game_option,
    machine_options,
    network_options,
    out_option,
    privacy_options,
    recipe_options,
    resume_options,
    split_options,
)

HELP = """Train one dense network on DATASET and write it to a model file.

DATASET is one of {datasets}; an .npz or HDF5 file with arrays x and y; a table (.csv, .csv.gz, .csv.xz, .parquet) with
--label; or a folder of class folders of images.

--resume resumes an interrupted run. It never trains a finished model again: with --epsilon this would spend the budget
twice.

\b
python cli.py train location30 --out model.h5
python cli.py train patients.csv --label readmitted --group patient_nbr --out model.h5
python cli.py train mnist --members all --epochs 20 --out model.h5
python cli.py train mnist --members all --epsilon 2 --out private.h5
python cli.py train mnist --members 5000 --nonmembers 5000 --epsilon 2 --canaries 1000 --out private.h5
python cli.py train cifar10 --network mobilenetv2 --width 0.25 --out model.h5
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@dataset_argument
@column_options
@recipe_options
@out_option
@network_options
@click.option("--epochs", type=click.IntRange(1), help="Number of epochs.  [default: the recipe's]")
@click.option("--lr", type=float, help="Learning rate.  [default: the recipe's]")
@click.option(
    "--seed", type=click.IntRange(0, LARGEST_SEED), default=0, help="Seed of the split and the initial weights."
)
@split_options
@game_option
@click.option("--epsilon", type=float, help="Train with DP-SGD within this epsilon.  [default: no DP-SGD]")
@privacy_options
@click.option(
    "--canaries",
    type=click.IntRange(16, 40_000),
    help="Number of canaries: mislabelled records, each trained on with probability 1/2.  [default: none]",
)
@resume_options
@machine_options
def train(
    dataset: str,
    out: pathlib.Path,
    network: str | None,
    width: float | None,
    epochs: int | None,
    lr: float | None,
    seed: int,
    members: int | str | None,
    reference: int | None,
    nonmembers: int | None,
    minmax: float | None,
    epsilon: float | None,
    delta: float | None,
    clip: float | None,
    canaries: int | None,
    resume: bool,
    overwrite: bool,
    checkpoint_every: float,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
    columns: dict[str, Any],
    recipe_path: pathlib.Path | None,
    save_recipe: pathlib.Path | None,
) -> None:
    from nanoprune.lab.experiment.recipes import recipe_for
    from nanoprune.lab.models.model import save_model
    from nanoprune.lab.workflow.single_model import summary_line, train_model

    data, threads = prepare(dataset, device, threads, data_dir, columns)
    sizes = {"reference": reference, "nonmembers": nonmembers}
    recipe = recipe_for(
        data,
        members,
        recipe_from(recipe_path, data),
        minmax=minmax if minmax is not None or recipe_path else 0.0,
        network=network,
        widths=width,
        **sizes,
    )
    recipe = dataclasses.replace(recipe, dense=changed(recipe.dense, epochs=epochs, lr=lr))
    if epsilon is not None and minmax:
        raise ArgumentError("epsilon is for training without the Min-Max game; leave out one of the two")
    if epsilon is None and (delta, clip) != (None, None):
        raise ArgumentError("delta and clip are for training with DP-SGD; give --epsilon")
    if epsilon is not None:
        private = changed(recipe.private, epsilons=(epsilon,), delta=delta, clip=clip, lr=lr, epochs=epochs)
        recipe = dataclasses.replace(recipe, private=private)
    save_recipe_to(save_recipe, recipe, overwrite or resume)
    with model_run(out, resume, overwrite, checkpoint_every) as run:
        with ProgressBars() as progress:
            model = train_model(data, recipe, seed, threads, progress, epsilon, run=run, canaries=canaries or 0)
        if not run.finished:
            run.finish(lambda folder: save_model(model, folder / out.name))
    click.echo(summary_line(model, data))
