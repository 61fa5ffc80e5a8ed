"""Tasks from files, run here or by an engine."""

from __future__ import annotations

import pathlib

import click

from nanoprune.lab.commands.console import Command, ProgressBars
from nanoprune.lab.commands.options import EPILOG, FILE, data_option, device_option, executor_option, own_data_option
from nanoprune.lab.commands.types import StorePath, Threads

HELP = """Run the tasks in FILE..., and keep their results in a folder.

`attack --plan` and `reproduce --plan` write task files. Finished tasks are not run again. Several processes, on any
machines that share the folder, may be given the same files: each runs tasks that no other process has claimed, and
exits when all are finished. A task that was written for other software versions, another type of processor or other
data is refused.

\b
python cli.py attack model.h5 --shadows 64 --plan tasks
python cli.py task tasks/*.json --store results/shadows
python cli.py attack model.h5 --shadows 64 --store results/shadows
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")
@click.option("--store", required=True, type=StorePath(), metavar="FOLDER|URL", help="Folder of the results.")
@executor_option
@own_data_option
@device_option
@click.option(
    "--threads", type=Threads(), default=1, help="Number of worker processes, for local and mpi; 1: no extra process."
)
@data_option
def task(
    files: tuple[pathlib.Path, ...],
    store: str | pathlib.Path,
    executor: str | None,
    data: str | None,
    members_file: pathlib.Path | None,
    device: str,
    threads: int,
    data_dir: pathlib.Path | None,
) -> None:
    from nanoprune.backend import use_device
    from nanoprune.lab.tasks.fleet import Fleet
    from nanoprune.lab.tasks.perform import machine_of
    from nanoprune.lab.tasks.task import read_task

    use_device(device)
    machine = machine_of(device, data_dir, data, members_file)
    tasks = [read_task(path) for path in files]
    for of in tasks if executor in (None, "local") else ():  # other engines have other processors
        of.check_environment()
    with ProgressBars() as progress, Fleet(store, executor or "local", threads, machine) as fleet:
        fleet.perform(tasks, progress)
    click.echo(f"{len(tasks)} tasks are done: {store}")
