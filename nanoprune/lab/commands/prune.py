"""A model file pruned."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import click
from rich.console import Console

from nanoprune.backend import use_device
from nanoprune.lab.commands.common import changed, check_outputs, model_run, prepare
from nanoprune.lab.commands.console import Keep, ProgressBars
from nanoprune.lab.commands.options import (
    EPILOG,
    game_option,
    machine_options,
    resume_options,
    scheme_options,
    scope_option,
)


@click.command(epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=pathlib.Path))
@click.option("--keep", type=Keep(), help="Share of the weights to keep, or one share a layer.")
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="The model file to write.")
@click.option("--rho", type=float, help="Penalty of ADMM.")
@click.option("--iterations", type=click.IntRange(1), help="ADMM iterations.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the members in all ADMM iterations together.")
@click.option("--retrain-epochs", type=click.IntRange(1), help="Passes over the members after the hard prune.")
@click.option("--lr", type=float, help="Learning rate of the W-steps.")
@click.option("--adaptive", is_flag=True, help="Adapt rho to balance the residuals.")
@scope_option
@scheme_options
@click.option("--json", "json_path", type=click.Path(path_type=pathlib.Path), help="Write the last table to this file.")
@click.option("--via", type=float, multiple=True, help="A ratio to prune to on the way; may be repeated.")
@game_option
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
    via: tuple[float, ...],
    minmax: float | None,
    resume: bool,
    overwrite: bool,
    checkpoint_every: float,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
) -> None:
    """Prune the model file MODEL by ADMM, retrain the survivors, and write the result.

    Prints one line for each ADMM iteration; then for each layer the share of the weights that was asked for and that
    is left, with parameters, multiplications and bytes; and last the accuracies and the compression. Interrupted, it
    goes on with --resume.

    \b
    python cli.py prune model.h5 --keep 0.05 --out pruned.h5
    python cli.py prune model.h5 --keep 0.01 --via 0.05 --scope global --out pruned.h5
    python cli.py prune lenet5.h5 --keep 0.2,0.08,0.009,0.07 --out pruned.h5
    python cli.py prune lenet5.h5 --scheme filter --keep 0.5 --out filters.h5
    python cli.py prune model.h5 --scheme 2:4 --exempt none --out pruned.h5
    """
    from nanoprune.lab.experiment.keep_file import read_keep_file
    from nanoprune.lab.experiment.recipes import one_ratio, recipe_for
    from nanoprune.lab.models.model import load_model, save_model
    from nanoprune.lab.report import cost_table
    from nanoprune.lab.storage.files import write_json
    from nanoprune.lab.workflow.single_model import prune_model, summary_line
    from nanoprune.lab.zoo.build import size_of
    from nanoprune.lab.zoo.cost import costs
    from nanoprune.lab.zoo.ratios import layer_names
    from nanoprune.prune.admm import Iteration

    use_device(device)
    dense = load_model(model)
    data, threads = prepare(dense.dataset, device, threads, data_dir)
    members = "all" if dense.members is None else dense.members
    ratios = one_ratio(keep, read_keep_file(keep_file, layer_names(dense.net)) if keep_file else None, scheme)
    network, size = dense.net.description["network"], size_of(dense.net.description)
    changes = {"keep": (ratios,), "scope": scope, "scheme": scheme, "exempt": exempt, "via": via or None}
    changes |= {"network": network, "widths": tuple(size) if isinstance(size, list) else size}
    recipe = recipe_for(data, members, minmax=minmax or 0.0, **changes)
    recipe = dataclasses.replace(
        recipe,
        prune=changed(recipe.prune, epochs=epochs, lr=lr),
        retrain=changed(recipe.retrain, epochs=retrain_epochs),
        admm=changed(recipe.admm, rho=rho, iterations=iterations, adaptive=adaptive or None),
    )
    budget = recipe.budget(dense.net, ratios)
    check_outputs(out, json_path)
    with model_run(out, resume, overwrite, checkpoint_every) as run:
        click.echo(Iteration.HEADER)
        with ProgressBars() as progress:
            pruned = prune_model(
                dense, data, recipe, ratios, threads, progress, lambda iteration: click.echo(iteration.line()), run
            )
        save_model(pruned, out)
    found = costs(pruned.net, budget)
    if json_path:
        write_json(found, json_path)
    Console().print(cost_table(found))
    click.echo(summary_line(pruned, data))
