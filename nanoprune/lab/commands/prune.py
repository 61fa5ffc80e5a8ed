"""Pruning of a model file."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import click

from nanoprune.lab.commands.columns import column_options
from nanoprune.lab.commands.common import (
    STANDARD_OUTPUT,
    changed,
    check_outputs,
    model_and_records,
    model_run,
    recipe_from,
    save_recipe_to,
    write_results,
)
from nanoprune.lab.commands.console import Command, ProgressBars, show, shown
from nanoprune.lab.commands.options import (
    EPILOG,
    FILE,
    OF_RECIPE,
    game_option,
    json_option,
    machine_options,
    out_option,
    own_data_option,
    recipe_options,
    resume_options,
    scheme_options,
    scope_option,
)
from nanoprune.lab.commands.types import Keep

if TYPE_CHECKING:
    from nanoprune.lab.audit import Comparison

HELP = """Prune the model file MODEL by ADMM, retrain the remaining weights, and write the pruned model.

Prints one line per ADMM iteration; then, for each layer, the requested and the actual keep ratio, with parameters,
multiply-accumulates and bytes; then the accuracies, the compression, and the strongest threshold attack before and
after pruning, on the model's own members (`audit` and `attack` try more attacks). A pruned model can be pruned further;
a ratio that would restore pruned weights is refused. --resume resumes an interrupted run.

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
@click.option(
    "--keep", type=Keep(), help="Keep ratio, the share of weights to keep, or one per layer.  [this or --keep-file]"
)
@out_option
@click.option("--rho", type=float, help="Penalty parameter rho of ADMM." + OF_RECIPE)
@click.option("--iterations", type=click.IntRange(1), help="Number of ADMM iterations." + OF_RECIPE)
@click.option("--epochs", type=click.IntRange(1), help="Epochs of ADMM, all iterations together." + OF_RECIPE)
@click.option(
    "--retrain-epochs",
    type=click.IntRange(1),
    help="Epochs of masked retraining after the hard prune." + OF_RECIPE,
)
@click.option("--lr", type=float, help="Learning rate of the W-steps." + OF_RECIPE)
@click.option("--adaptive", is_flag=True, help="Adapt rho to balance the primal and dual residuals.")
@scope_option
@scheme_options
@json_option
@click.option(
    "--release",
    metavar="DATA",
    help="Also write OUT.safetensors and a model card; DATA describes the training data.  [default: none]",
)
@click.option("--via", type=float, multiple=True, help="Intermediate keep ratio; may be repeated.  [default: none]")
@game_option
@own_data_option
@column_options
@recipe_options
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
    columns: dict[str, Any],
    recipe_path: pathlib.Path | None,
    save_recipe: pathlib.Path | None,
) -> None:
    from nanoprune.lab.experiment.keep_file import one_ratio, read_keep_file
    from nanoprune.lab.experiment.recipes import recipe_of
    from nanoprune.lab.export import write_files
    from nanoprune.lab.export.release import release_files
    from nanoprune.lab.models.model import save_model
    from nanoprune.lab.report.admm_lines import HEADER, admm_line
    from nanoprune.lab.workflow.leakage import leakage_change
    from nanoprune.lab.workflow.single_model import prune_model, summary_line
    from nanoprune.lab.zoo.cost import costs
    from nanoprune.lab.zoo.keep_ratios import layer_names
    from nanoprune.prune.admm import Iteration

    dense, dataset, threads = model_and_records(model, data, members_file, device, threads, data_dir, columns)
    ratios = one_ratio(keep, read_keep_file(keep_file, layer_names(dense.net)) if keep_file else None, scheme)
    changes = {"keep": (ratios,), "scope": scope, "scheme": scheme, "exempt": exempt, "via": via or None}
    recipe = recipe_of(
        dense.net.description,
        dataset,
        dense.members,
        recipe_from(recipe_path, dataset),
        minmax=minmax if minmax is not None or recipe_path else 0.0,
        **changes,
    )
    recipe = dataclasses.replace(
        recipe,
        prune=changed(recipe.prune, epochs=epochs, lr=lr),
        retrain=changed(recipe.retrain, epochs=retrain_epochs),
        admm=changed(recipe.admm, rho=rho, iterations=iterations, adaptive=adaptive or None),
    )
    budget = recipe.budget(dense.net, ratios)
    released = release_files(dense, out, release) if release else {}  # what cannot be released is refused now
    check_outputs(out, outputs=[json_path, *released], overwrite=overwrite or resume)
    save_recipe_to(save_recipe, recipe, overwrite or resume)

    def solved(iteration: Iteration) -> None:
        click.echo(admm_line(iteration), err=on_stderr)

    on_stderr = json_path == STANDARD_OUTPUT
    with model_run(out, resume, overwrite, checkpoint_every) as run:
        click.echo(HEADER, err=on_stderr)
        with ProgressBars() as progress:
            pruned = prune_model(dense, dataset, recipe, ratios, threads, progress, solved, run)
        if not run.finished:
            run.finish(lambda folder: save_model(pruned, folder / out.name))
    if release:
        write_files(release_files(pruned, out, release), overwrite)
    leaks = leakage_change(dense, pruned, dataset, threads)
    _tell(costs(pruned.net, budget), summary_line(pruned, dataset), leaks, json_path)


def _tell(found: dict[str, Any], summary: str, leaks: Comparison | None, json_path: pathlib.Path | None) -> None:
    """Print the costs, the accuracies and what pruning did to leakage; on standard error where the JSON goes there."""
    from nanoprune.lab.report import cost_table, leakage_line
    from nanoprune.lab.workflow.leakage import in_brief

    on_stderr = json_path == STANDARD_OUTPUT
    if json_path:
        write_results(found | {"leakage": leaks and in_brief(leaks)}, json_path)
    show(cost_table(shown(found)), on_stderr)
    for name in (of["layer"] for of in found["layers"] if of["kept"] == 0):
        click.echo(f"warning: {name} has no weight left: what comes before it cannot reach the outputs", err=True)
    click.echo(summary, err=on_stderr)
    line = leakage_line(leaks.to_dict()) if leaks else "leakage: not measured, there are too few members or non-members"
    click.echo(line, err=on_stderr)
