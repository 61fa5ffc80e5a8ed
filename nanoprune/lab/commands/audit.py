"""Attacks on the predictions of any model."""

from __future__ import annotations

import pathlib

import click

from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.common import check_outputs, deliver, deliver_comparison, exit_status
from nanoprune.lab.commands.console import Command, ProgressBars
from nanoprune.lab.commands.options import (
    EPILOG,
    FILE,
    LARGEST_SEED,
    alpha_option,
    results_options,
    threads_option,
    verdict_options,
)
from nanoprune.lab.storage.text import printable

HELP = """Audit the predictions in SCORES (.npz, .h5, .csv or .csv.gz) of a model from any framework.

Several files must be the predictions of several models for the same records: each model is then compared with the
first, record by record.

An .npz or .h5 file has the arrays target_probs (n, classes) or target_logits, target_labels (n,) and target_member
(n,). A .csv file has the columns label, member and p0, p1, ... (or logits z0, z1, ...) in any order.

The same arrays with the prefix shadow_ may hold the predictions of a shadow model: the attacks are then fitted on it.
Otherwise they are cross-fitted: the attacks on each half of the records are fitted on the other half.

\b
python cli.py audit scores.npz
python cli.py audit scores.csv --json audit.json --report audit.html
python cli.py audit dense.npz pruned.npz --report comparison.html
python cli.py audit scores.npz --quick --fail-on clear
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("scores", type=FILE, nargs=-1, required=True)
@results_options
@alpha_option
@verdict_options
@click.option("--quick", is_flag=True, help="Skip the attack network, which takes most of the time.")
@click.option(
    "--seed", type=click.IntRange(0, LARGEST_SEED), default=0, help="Seed of cross-fitting and the attack network."
)
@click.option(
    "--split",
    type=click.Choice(["random", "fixed"]),
    default="random",
    help="fixed: membership was not random, as with an official training set; no bound on epsilon is computed.",
)
@click.option(
    "--delta",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=1e-5,
    help="delta of the bounds on (epsilon, delta).",
)
@threads_option
def audit(
    scores: tuple[pathlib.Path, ...],
    json_path: pathlib.Path | None,
    page: pathlib.Path | None,
    overwrite: bool,
    alpha: float,
    prior: float,
    fail_on: str | None,
    quick: bool,
    seed: int,
    split: str,
    delta: float,
    threads: int | None,
) -> int:
    from nanoprune.lab.api import audit as audit_file
    from nanoprune.lab.audit import compare_predictions, read_predictions
    from nanoprune.lab.engine.passes import default_threads

    check_outputs(*scores, outputs=[json_path, page], overwrite=overwrite)
    sources = named(scores)
    options = {"alpha": alpha, "seed": seed, "delta": delta, "prior": prior, "quick": quick}
    if len(scores) == 1:
        done = audit_file(scores[0], split=split, n_jobs=threads or -1, verbose=True, **options)
        deliver(done.results, done.curves, scores[0], json_path, page)
        return exit_status([done.results], fail_on)
    models = {name: read_predictions(path) for name, path in sources.items()}
    options |= {"threads": threads or default_threads(), "random_split": split == "random"}
    with ProgressBars() as progress:
        compared = compare_predictions(models, start=progress.start, advance=progress.advance, **options)
    deliver_comparison(compared, sources, json_path, page)
    return exit_status([compared.audits[name] for name in compared.differences], fail_on)


def named(scores: tuple[pathlib.Path, ...]) -> dict[str, pathlib.Path]:
    """The files by their names, with folders where two have the same. Raises ArgumentError on a file given twice."""
    if len({path.resolve() for path in scores}) < len(scores):
        raise ArgumentError("SCORES: a file is named twice; give the predictions of different models")
    names = [path.name for path in scores]
    return {printable(path if names.count(path.name) > 1 else path.name): path for path in scores}
