"""Attacks on a model file, with shadow models."""

from __future__ import annotations

import pathlib

import click

from nanoprune.backend import use_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.common import check_outputs, deliver, prepare
from nanoprune.lab.commands.console import ProgressBars
from nanoprune.lab.commands.options import EPILOG, alpha_option, machine_options


@click.command(epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=pathlib.Path))
@click.option("--dataset", help="Must be the model's own.  [default: what the model file says]")
@click.option("--shadows", type=int, default=16, show_default=True, help="How many shadow models: even, at least 6.")
@click.option("--dense", type=click.Path(path_type=pathlib.Path), help="The model that MODEL was pruned from.")
@click.option("--json", "json_path", type=click.Path(path_type=pathlib.Path), help="Write the results to this file.")
@click.option("--report", "page", type=click.Path(path_type=pathlib.Path), help="Write a self-contained HTML page.")
@click.option("--cache", type=click.Path(path_type=pathlib.Path), help="Keep the shadows' predictions in this folder.")
@alpha_option
@machine_options
def attack(
    model: pathlib.Path,
    dataset: str | None,
    shadows: int,
    dense: pathlib.Path | None,
    json_path: pathlib.Path | None,
    page: pathlib.Path | None,
    cache: pathlib.Path | None,
    alpha: float,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
) -> None:
    """Attack the model file MODEL with shadow models that are trained as it was, pruning, game and all.

    LiRA, RMIA, difficulty calibration, the attack network and the threshold attacks; for a defended model also by an
    attacker who trains plain shadows, and for a pruned one by what its mask alone says and, with --dense, by an
    attacker who holds both networks. With --cache the shadows are trained once.

    \b
    python cli.py attack model.h5
    python cli.py attack pruned.h5 --dense model.h5 --cache results/shadows --report attack.html
    """
    from nanoprune.lab.audit import attack_model
    from nanoprune.lab.export.about import NAMES_MEMBERS
    from nanoprune.lab.models.model import load_model
    from nanoprune.lab.storage.files import check_writable

    use_device(device)
    target, before = load_model(model), load_model(dense) if dense else None
    if dataset not in (None, target.dataset):
        raise ArgumentError(f"--dataset {dataset}: the model was trained on {target.dataset}; leave the option out")
    data, threads = prepare(target.dataset, device, threads, data_dir)
    check_outputs(model, json_path, page)
    if cache:
        check_writable(cache)
    with ProgressBars() as progress:
        results, curves = attack_model(target, data, shadows, alpha, threads, progress, before, cache)
    deliver(results, curves, model, json_path, page)
    click.echo(NAMES_MEMBERS.format(path=model.name))
