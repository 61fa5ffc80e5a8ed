"""Attacks on the predictions of any model."""

from __future__ import annotations

import pathlib

import click

from nanoprune.lab.commands.common import check_outputs, deliver
from nanoprune.lab.commands.console import Command, ProgressBars
from nanoprune.lab.commands.options import EPILOG, FILE, LARGEST_SEED, alpha_option, results_options, threads_option

HELP = """Audit the predictions in SCORES (.npz, .h5 or .csv) of a model from any framework.

.npz and .h5 hold target_probs (n, classes) or target_logits, target_labels (n,) and target_member (n,), and optionally
the same three as shadow_..., of a model of your own trained alike: the attacks are then fitted on it. A .csv has the
columns label,member,p0,p1,... Without a shadow model the attacks on each half of the records are fitted on the other
half. Nothing is unpickled.

\b
python cli.py audit scores.npz
python cli.py audit scores.csv --json audit.json --report audit.html
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("scores", type=FILE)
@results_options
@alpha_option
@click.option(
    "--seed", type=click.IntRange(0, LARGEST_SEED), default=0, help="Of the two halves and the attack network."
)
@click.option(
    "--split",
    type=click.Choice(["random", "fixed"]),
    default="random",
    help="fixed: members were not drawn by chance, as of an official training set; no bound on epsilon.",
)
@click.option(
    "--delta",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=1e-5,
    help="Of the bounds on (epsilon, delta).",
)
@threads_option
def audit(
    scores: pathlib.Path,
    json_path: pathlib.Path | None,
    page: pathlib.Path | None,
    overwrite: bool,
    alpha: float,
    seed: int,
    split: str,
    delta: float,
    threads: int | None,
) -> None:
    from nanoprune.lab.audit import audit as run
    from nanoprune.lab.audit import read_predictions
    from nanoprune.lab.engine.passes import default_threads

    check_outputs(scores, json_path, page, overwrite=overwrite)
    target, shadow = read_predictions(scores)
    with ProgressBars() as progress:
        told = (progress.start, progress.advance)
        results, curves = run(
            target, shadow, alpha, seed, threads or default_threads(), *told, split == "random", delta
        )
    deliver(results, curves, scores, json_path, page)
