"""Attacks on a model file, with shadow models."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nanoprune.lab.commands.columns import column_options
from nanoprune.lab.commands.common import STANDARD_OUTPUT, check_outputs, deliver, exit_status, model_and_records
from nanoprune.lab.commands.console import Command, ProgressBars
from nanoprune.lab.commands.fleet import check_fleet, fleet_options, trainer, write_tasks
from nanoprune.lab.commands.options import (
    EPILOG,
    FILE,
    alpha_option,
    machine_options,
    own_data_option,
    results_options,
    verdict_options,
)
from nanoprune.lab.commands.types import Attacks

HELP = """Attack the model file MODEL with shadow models that are trained as MODEL was, pruning and game included.

The attacks are the threshold attacks, the attack network and those listed below. --attacks chooses some of them, by
name or by family, the first word of the name; those that take long are made only if they are named. Further attackers:

\b
a defended MODEL   one whose shadow models are undefended (non-adaptive)
a pruned MODEL     one who sees the pruning mask alone
--dense            one who has the dense network too
--versions         one who has other released versions of MODEL too

--cache keeps the shadow models' predictions, so that they are trained once. --plan writes their training as tasks,
which `task` runs on any number of machines; --store reads the results and runs missing tasks.

\b
python cli.py attack model.h5
python cli.py attack pruned.h5 --dense model.h5 --cache results/shadows --report attack.html
python cli.py attack pruned.h5 --versions model.h5 --versions int8.h5
python cli.py attack model.h5 --shadows 32 --seeds 4 --json found.json
python cli.py attack imported.h5 --data mine.npz --members-file ids.txt
python cli.py attack model.h5 --shadows 64 --plan tasks
python cli.py attack model.h5 --shadows 64 --store results/shadows
python cli.py attack model.h5 --attacks lira_online,base,bavaria --shadows 32

\b
What each attack needs (IN: shadow models trained on the record, OUT: shadow models not trained on it):
{attacks}
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("model", type=FILE)
@own_data_option
@column_options
@click.option(
    "--shadows", type=int, default=16, help="Number of shadow models: even, at least 6; more than 256 with --store."
)
@click.option(
    "--attacks",
    type=Attacks(),
    default="all",
    metavar="NAME,...|all",
    help="Attacks to run besides the threshold attacks: names or families listed above, or network.",
)
@click.option("--dense", type=FILE, help="Dense model file that MODEL was pruned from.  [default: none]")
@click.option(
    "--versions", type=FILE, multiple=True, help="Another released version of MODEL; may be repeated.  [default: none]"
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    help="Divide the shadow models among this many attackers, and compare the members that they find.",
)
@results_options
@click.option("--cache", type=FILE, help="Keep the shadow models' predictions in this folder.  [default: none]")
@fleet_options
@alpha_option
@verdict_options
@machine_options
def attack(
    model: pathlib.Path,
    data: str | None,
    members_file: pathlib.Path | None,
    shadows: int,
    attacks: str,
    dense: pathlib.Path | None,
    versions: tuple[pathlib.Path, ...],
    seeds: int,
    json_path: pathlib.Path | None,
    page: pathlib.Path | None,
    overwrite: bool,
    cache: pathlib.Path | None,
    plan: pathlib.Path | None,
    store: str | pathlib.Path | None,
    executor: str | None,
    per_task: int | None,
    alpha: float,
    prior: float,
    fail_on: str | None,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
    columns: dict[str, Any],
) -> int:
    from nanoprune.lab.audit import attack_model
    from nanoprune.lab.export.about import NAMES_MEMBERS
    from nanoprune.lab.models.imported import UNKNOWN, on_records
    from nanoprune.lab.models.model import Model, load_model
    from nanoprune.lab.storage.files import check_writable

    given = {"--plan": plan, "--store": store, "--executor": executor, "--per-task": per_task}
    given |= {
        "--cache": cache,
        "--dense": dense,
        "--versions": versions or None,
        "--seeds": None if seeds == 1 else seeds,
        "--json": json_path,
        "--report": page,
    }
    check_fleet(given | {"--attacks": None if attacks == "all" else attacks})
    target, dataset, threads = model_and_records(model, data, members_file, device, threads, data_dir, columns)
    if plan:
        write_tasks(target, dataset, shadows, per_task, plan)
        return 0

    def loaded(path: pathlib.Path) -> Model:
        found = load_model(path)
        return on_records(found, dataset) if found.dataset == UNKNOWN else found

    before, others = loaded(dense) if dense else None, [loaded(path) for path in versions]
    check_outputs(model, outputs=[json_path, page], overwrite=overwrite)
    if cache:
        check_writable(cache)
    machine = (device, data_dir, data, members_file)
    with ProgressBars() as progress, trainer(store, executor, per_task, threads, machine) as train:
        results, curves = attack_model(
            target, dataset, shadows, alpha, threads, progress, before, cache, prior, attacks, train, others, seeds
        )
    deliver(results, curves, model, json_path, page)
    click.echo(NAMES_MEMBERS.format(path=model.name), err=json_path == STANDARD_OUTPUT)
    return exit_status([results], fail_on)
