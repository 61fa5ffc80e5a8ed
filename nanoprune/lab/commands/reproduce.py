"""The paper's comparison."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import click

from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.columns import column_options
from nanoprune.lab.commands.common import changed, command, prepare, recipe_from, save_recipe_to
from nanoprune.lab.commands.console import Command, ProgressBars, show, shown
from nanoprune.lab.commands.fleet import check_fleet, gathered, task_options, write_seeds
from nanoprune.lab.commands.options import (
    EPILOG,
    FILE,
    LARGEST_SEED,
    MOST_SEEDS,
    dataset_argument,
    game_option,
    machine_options,
    network_options,
    privacy_options,
    recipe_options,
    resume_options,
    scheme_options,
    scope_option,
    split_options,
)
from nanoprune.lab.commands.types import Keep

PLOTS = ("accuracy", "roc", "residuals", "adversary")
OUTPUTS = ("curves.h5", "report.html", "accuracy.png", *(f"{name}.svg" for name in PLOTS))
HELP = """Run the paper's comparison on DATASET.

DATASET is one of {datasets}; an .npz or HDF5 file with arrays x and y; a table (.csv, .csv.gz, .csv.xz, .parquet) with
--label; or a folder of class folders of images.

Trains and attacks the unprotected network, the Min-Max game, MIA-Pruning with and without the game for each --keep, and
their controls: the dense network stopped early at the accuracy of the pruned one, a small dense network of the same
size, the same schedule with nothing pruned (prune-1), and one-shot magnitude pruning. Writes results.json, curves.h5,
plots and report.html to the folder --out, and prints tables.

--methods chooses the methods, K being a keep ratio (docs/methods.md describes them; an unknown name lists all):

\b
default             the above; all: every method
simple              validation-stop, l2, dropout, label-smoothing, relaxloss, memguard, temperature
private             the methods with DP-SGD, within --epsilon
gradual-K, ppb-K    gradual magnitude pruning, without and with pair-based posterior balancing
ste-K, admm-zwu-K, admm-momentum-K       the straight-through estimator, and variants of ADMM
rewind-K            iterative magnitude pruning with weight rewinding
alps-K, sparsegpt-K, wanda-K             layer-wise pruning, not retrained
random-K, synflow-K, snip-K, grasp-K     pruning at initialisation
distil-K, selena, past                   distillation, self-distillation, adaptive L1 regularisation

The same command with --resume resumes an interrupted run, and ends with the same results; it never repeats a finished
run. --plan writes one task per seed, which `task` runs on any number of machines; --store reads the results and runs
missing tasks.

\b
python cli.py reproduce digits
python cli.py reproduce location30 --seeds 5 --keep 0.1 --keep 0.05 --keep 0.02
python cli.py reproduce mnist --members all --out results/mnist-all
python cli.py reproduce mnist --scheme filter --keep 0.5
python cli.py reproduce cifar10 --network vgg16 --width 0.25
python cli.py reproduce location30 --methods default,simple
python cli.py reproduce location30 --methods prune-0.05,relaxloss,dropout
python cli.py reproduce mnist --epsilon 2 --epsilon 8 --methods prune-0.1,private
python cli.py reproduce mnist --seeds 20 --plan tasks
python cli.py reproduce mnist --seeds 20 --store results/parts
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@dataset_argument
@column_options
@recipe_options
@click.option("--out", type=FILE, help="Folder to write the results to.  [default: results/DATASET]")
@click.option(
    "--seeds",
    type=click.IntRange(1, MOST_SEEDS),
    help="Number of seeds, each with its own split and initial weights.  [default: the recipe's]",
)
@click.option(
    "--first-seed",
    type=click.IntRange(0, LARGEST_SEED - MOST_SEEDS),
    default=0,
    help="First seed; the others follow it.",
)
@click.option(
    "--keep",
    type=Keep(),
    multiple=True,
    help="Keep ratio, the share of weights to keep; may be repeated.  [default: the recipe's]",
)
@scope_option
@scheme_options
@split_options
@game_option
@network_options
@click.option(
    "--attacks",
    type=click.Choice(["standard", "full"]),
    default="standard",
    help="full: also attack every network with shadow models, which takes long.",
)
@click.option("--shadows", type=int, help="Shadow models for each network, with --attacks full.  [default: 16]")
@click.option(
    "--methods",
    default="default",
    metavar="NAME,...|default|all",
    help="Methods to compare; the methods that they need are added.",
)
@click.option(
    "--epsilon",
    type=float,
    multiple=True,
    help="Epsilon of the methods with DP-SGD, which it adds; may be repeated.  [default: the recipe's]",
)
@privacy_options
@click.option("--weight-decay", type=float, help="Weight decay (L2) of the dense networks.  [default: the recipe's]")
@resume_options
@task_options
@machine_options
def reproduce(
    dataset: str,
    out: pathlib.Path | None,
    seeds: int | None,
    first_seed: int,
    keep: tuple[Any, ...],
    scope: str | None,
    keep_file: pathlib.Path | None,
    scheme: str | None,
    exempt: tuple[str, ...] | None,
    members: int | str | None,
    reference: int | None,
    nonmembers: int | None,
    minmax: float | None,
    network: str | None,
    width: float | None,
    attacks: str,
    shadows: int | None,
    methods: str,
    epsilon: tuple[float, ...],
    delta: float | None,
    clip: float | None,
    weight_decay: float | None,
    resume: bool,
    overwrite: bool,
    checkpoint_every: float,
    plan: pathlib.Path | None,
    store: str | pathlib.Path | None,
    executor: str | None,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
    columns: dict[str, Any],
    recipe_path: pathlib.Path | None,
    save_recipe: pathlib.Path | None,
) -> None:
    from nanoprune.lab.data.catalogue import NAMES
    from nanoprune.lab.engine.run_folder import Run
    from nanoprune.lab.experiment.keep_file import layer_names, read_keep_file
    from nanoprune.lab.experiment.methods import check_private
    from nanoprune.lab.experiment.recipes import recipe_for
    from nanoprune.lab.experiment.results import write_results
    from nanoprune.lab.report import check_results, controls_table, results_table, write_report
    from nanoprune.lab.workflow.reproduce import reproduce as compare

    data, threads = prepare(dataset, device, threads, data_dir, columns)
    sizes = {"reference": reference, "nonmembers": nonmembers}
    if keep_file:
        keep = (*keep, read_keep_file(keep_file, layer_names(data, members, network)))
    changes = {"keep": keep or None, "scope": scope, "minmax": minmax, "seeds": seeds, "scheme": scheme}
    recipe = recipe_for(
        data, members, recipe_from(recipe_path, data), **changes, **sizes, exempt=exempt, network=network, widths=width
    )
    private = changed(recipe.private, epsilons=epsilon or None, delta=delta, clip=clip)
    recipe = dataclasses.replace(recipe, dense=changed(recipe.dense, weight_decay=weight_decay), private=private)
    if epsilon and methods == "default":
        methods = "default,private"
    if epsilon or delta is not None or clip is not None:
        check_private(recipe, methods)
    if attacks == "full":
        shadows = 16 if shadows is None else shadows
    elif shadows is not None:
        raise ArgumentError("shadows are for --attacks full; give that, or leave them out")
    given = {"--plan": plan, "--store": store, "--executor": executor, "--out": out, "--attacks full": shadows}
    check_fleet(given | {"--resume": resume or None, "--overwrite": (overwrite and not save_recipe) or None})
    if store and shadows:
        raise ArgumentError("--attacks full trains shadow models here, not as tasks: leave it or --store out")
    numbers = range(first_seed, first_seed + recipe.seeds)
    comparison = (data, recipe, numbers, methods)
    save_recipe_to(save_recipe, recipe, overwrite or resume)
    if plan:
        write_seeds(*comparison, plan)
        return
    out = out or pathlib.Path("results") / pathlib.Path(data.name).stem
    with Run(out, resume, overwrite, checkpoint_every, outputs=OUTPUTS) as run:
        with ProgressBars() as progress:
            machine = (device, data_dir, None if data.name in NAMES else dataset, None)
            trained = None if run.finished else gathered(comparison, store, executor, threads, machine, progress)
            about = (command(), shadows or 0, methods, run, trained)
            results, curves = compare(data, recipe, numbers, threads, progress, *about)
        if run.finished:
            check_results(results, out / "results.json")
        else:
            run.finish(lambda folder: write_results(results, curves, folder))
            (out / "report.html").unlink(missing_ok=True)  # of another run: a page is there once it is this run's
        if not (out / "report.html").exists():
            write_report(results, out)
    safe = shown(results)
    for table in filter(None, (results_table(safe), controls_table(safe))):
        show(table)
    for note in safe["notes"]:
        click.echo(f"note: {note}")
    click.echo(f"{results['seconds']:.0f} s; {out / 'report.html'}")
