"""The predictions of a model file, in a file for `audit`."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nanoprune.lab.commands.columns import column_options
from nanoprune.lab.commands.common import check_outputs, model_and_records
from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import EPILOG, FILE, machine_options, overwrite_option, own_data_option

HELP = """Write the predictions of the model file MODEL for its members and as many non-members, for `audit`.

The file has logits, labels and membership, so it identifies the members. The records are the same for all models with
the same split, such as a network before and after pruning: `audit` compares these record by record.

\b
python cli.py predict model.h5 --out dense.npz
python cli.py predict pruned.h5 --out pruned.npz
python cli.py audit dense.npz pruned.npz
python cli.py predict imported.h5 --data mine.npz --members-file ids.txt --out scores.csv
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("model", type=FILE)
@click.option("--out", required=True, type=FILE, help="The .npz or .csv file to write.")
@own_data_option
@column_options
@overwrite_option
@machine_options
def predict(
    model: pathlib.Path,
    out: pathlib.Path,
    data: str | None,
    members_file: pathlib.Path | None,
    overwrite: bool,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
    columns: dict[str, Any],
) -> None:
    from nanoprune.lab.audit.predictions_file import check_predictions_path, write_predictions
    from nanoprune.lab.workflow.predictions import scored_predictions

    check_predictions_path(out)
    target, dataset, threads = model_and_records(model, data, members_file, device, threads, data_dir, columns)
    check_outputs(model, outputs=[out], overwrite=overwrite)
    found = scored_predictions(target, dataset, threads)
    write_predictions(found, out)
    members = int(found.member.sum())
    click.echo(f"{out}: predictions for {members:,} members and {len(found.y) - members:,} others")
