"""A model file pruned."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import click

from nanoprune.lab.commands.common import changed, check_outputs, model_and_records, model_run
from nanoprune.lab.commands.console import Command, ProgressBars, show, shown
from nanoprune.lab.commands.options import (
    EPILOG,
    FILE,
    OF_RECIPE,
    game_option,
    machine_options,
    out_option,
    own_data_option,
    resume_options,
    scheme_options,
    scope_option,
)
from nanoprune.lab.commands.types import Keep

HELP = """Prune the model file MODEL by ADMM, retrain the weights that are left, and write the result.

Prints one line for each ADMM iteration; then for each layer the share of the weights that was asked for and that is
left, with parameters, multiplications and bytes; last the accuracies and the compression. A pruned model can be pruned
further: a ratio that would give back pruned weights is refused. An interrupted run is resumed with --resume.

\b
python cli.py prune model.h5 --keep 0.05 --out pruned.h5
python cli.py prune model.h5 --keep 0.01 --via 0.05 --scope global --out pruned.h5
python cli.py prune lenet5.h5 --keep 0.2,0.08,0.009,0.07 --out pruned.h5
python cli.py prune lenet5.h5 --scheme filter --keep 0.5 --out filters.h5
python cli.py prune model.h5 --scheme 2:4 --exempt none --out pruned.h5
python cli.py prune imported.h5 --data mine.npz --members-file ids.txt --keep 0.1 --out pruned.h5
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("model", type=FILE)
@click.option("--keep", type=Keep(), help="Share of the weights to keep, or one ratio a layer.  [this or --keep-file]")
@out_option
@click.option("--rho", type=float, help="Penalty of ADMM." + OF_RECIPE)
@click.option("--iterations", type=click.IntRange(1), help="ADMM iterations." + OF_RECIPE)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the members in all ADMM iterations." + OF_RECIPE)
@click.option(
    "--retrain-epochs",
    type=click.IntRange(1),
    help="Passes over the members after the hard prune." + OF_RECIPE,
)
@click.option("--lr", type=float, help="Learning rate of the W-steps." + OF_RECIPE)
@click.option("--adaptive", is_flag=True, help="Adapt rho to balance the residuals.")
@scope_option
@scheme_options
@click.option("--json", "json_path", type=FILE, help="Write the last table to this file.  [default: none]")
@click.option(
    "--release",
    metavar="DATA",
    help="Write OUT.safetensors and a model card too; DATA: the data in words.  [default: not]",
)
@click.option("--via", type=float, multiple=True, help="A ratio to prune to on the way; repeatable.  [default: none]")
@game_option
@own_data_option
@resume_options
@machine_options
def prune(
    model: pathlib.Path,
    keep: Any,
    out: pathlib.Path,
    rho: float | None,
    iterations: int | None,
    epochs: int | None,
    retrain_epochs: int | None,
    lr: float | None,
    adaptive: bool,
    scope: str | None,
    keep_file: pathlib.Path | None,
    scheme: str | None,
    exempt: tuple[str, ...] | None,
    json_path: pathlib.Path | None,
    release: str | None,
    via: tuple[float, ...],
    minmax: float | None,
    data: str | None,
    members_file: pathlib.Path | None,
    resume: bool,
    overwrite: bool,
    checkpoint_every: float,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
) -> None:
    from nanoprune.lab.experiment.keep_file import read_keep_file
    from nanoprune.lab.experiment.recipes import one_ratio, recipe_of
    from nanoprune.lab.export import write_files
    from nanoprune.lab.export.release import release_files
    from nanoprune.lab.models.model import save_model
    from nanoprune.lab.report import cost_table
    from nanoprune.lab.storage.files import write_json
    from nanoprune.lab.workflow.single_model import prune_model, summary_line
    from nanoprune.lab.zoo.cost import costs
    from nanoprune.lab.zoo.ratios import layer_names
    from nanoprune.prune.admm import Iteration

    dense, dataset, threads = model_and_records(model, data, members_file, device, threads, data_dir)
    ratios = one_ratio(keep, read_keep_file(keep_file, layer_names(dense.net)) if keep_file else None, scheme)
    changes = {"keep": (ratios,), "scope": scope, "scheme": scheme, "exempt": exempt, "via": via or None}
    recipe = recipe_of(dense.net.description, dataset, dense.members, minmax=minmax or 0.0, **changes)
    recipe = dataclasses.replace(
        recipe,
        prune=changed(recipe.prune, epochs=epochs, lr=lr),
        retrain=changed(recipe.retrain, epochs=retrain_epochs),
        admm=changed(recipe.admm, rho=rho, iterations=iterations, adaptive=adaptive or None),
    )
    budget = recipe.budget(dense.net, ratios)
    check_outputs(out, json_path, overwrite=overwrite or resume)
    with model_run(out, resume, overwrite, checkpoint_every) as run:
        click.echo(Iteration.HEADER)
        with ProgressBars() as progress:
            pruned = prune_model(
                dense, dataset, recipe, ratios, threads, progress, lambda iteration: click.echo(iteration.line()), run
            )
        if not run.finished:
            run.finish(lambda folder: save_model(pruned, folder / out.name))
    if release:
        write_files(release_files(pruned, out, release), overwrite)
    found = costs(pruned.net, budget)
    if json_path:
        write_json(found, json_path)
    show(cost_table(shown(found)))
    for name in (of["layer"] for of in found["layers"] if of["kept"] == 0):
        click.echo(f"warning: {name} has no weight left: what comes before it cannot reach the outputs", err=True)
    click.echo(summary_line(pruned, dataset))
