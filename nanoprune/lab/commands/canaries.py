"""The bound on epsilon of a model that was trained on canaries."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nanoprune.lab.commands.columns import column_options
from nanoprune.lab.commands.common import STANDARD_OUTPUT, check_outputs, command, model_and_records, write_results
from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import (
    EPILOG,
    FILE,
    alpha_option,
    json_option,
    machine_options,
    overwrite_option,
    own_data_option,
)
from nanoprune.lab.storage.text import printable

HELP = """Compute a lower bound on the epsilon of the training of MODEL from its canaries.

`train --canaries M` draws M records, gives each a wrong label, and adds each to the training set with probability 1/2.
How well the model's outputs tell the added canaries from the others bounds epsilon from below (Steinke et al. 2023).
One training is enough, and no shadow models are trained. `prune` trains on the same canaries: audit the pruned model
in the same way.

\b
python cli.py train digits --members 400 --nonmembers 400 --reference 0 --canaries 500 --out model.h5
python cli.py canaries model.h5
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("model", type=FILE)
@own_data_option
@column_options
@click.option("--delta", type=float, help="delta of the bounds.  [default: that of the model's DP-SGD, else 1e-5]")
@json_option
@overwrite_option
@alpha_option
@machine_options
def canaries(
    model: pathlib.Path,
    data: str | None,
    members_file: pathlib.Path | None,
    delta: float | None,
    json_path: pathlib.Path | None,
    overwrite: bool,
    alpha: float,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
    columns: dict[str, Any],
) -> None:
    from nanoprune.lab.audit.canaries import audit_canaries
    from nanoprune.lab.report.canaries import canaries_text
    from nanoprune.lab.storage.files import file_sha256

    target, dataset, threads = model_and_records(model, data, members_file, device, threads, data_dir, columns)
    check_outputs(model, outputs=[json_path], overwrite=overwrite)
    found = audit_canaries(target, dataset, alpha, delta, threads)
    if json_path:
        source = {"name": printable(model.name), "sha256": file_sha256(model)}
        write_results(found | {"source": source, "command": command()}, json_path)
    for line in canaries_text(found):
        click.echo(line, err=json_path == STANDARD_OUTPUT)
