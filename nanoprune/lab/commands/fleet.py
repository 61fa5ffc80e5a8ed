"""The options of `attack` and `reproduce` for training as tasks."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import click

from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.options import FILE, executor_option, options
from nanoprune.lab.commands.types import StorePath

task_options = options(
    click.option(
        "--plan", type=FILE, help="Write the training as task files to this folder, and exit.  [default: none]"
    ),
    click.option(
        "--store",
        type=StorePath(),
        metavar="FOLDER|URL",
        help="Read the results of tasks from this folder, and run missing tasks.  [default: none]",
    ),
    executor_option,
)
fleet_options = options(
    task_options,
    click.option(
        "--per-task",
        type=click.IntRange(1),
        help="Shadow models per task; give the same number with --plan and --store.  [default: 2]",
    ),
)


def check_fleet(given: dict[str, Any]) -> None:
    """Refuse options that would have no effect or contradict each other. given: the values by option, None if not."""
    names = {name for name, value in given.items() if value is not None}
    useless = names - {"--plan", "--per-task"} if "--plan" in names else set()
    if useless:
        raise ArgumentError(f"--plan writes tasks and ends: {min(useless)} has no effect; leave one of the two out")
    if "--executor" in names and "--store" not in names:
        raise ArgumentError("--executor performs tasks, whose results need a folder; name it with --store")
    if "--per-task" in names and not names & {"--plan", "--store"}:
        raise ArgumentError("--per-task is for tasks; give --plan or --store too")
    if {"--store", "--cache"} <= names:
        raise ArgumentError("--store and --cache both keep the shadow models; give one")


def write_tasks(model: Any, dataset: Any, shadows: int, per_task: int | None, folder: pathlib.Path) -> None:
    """Write the tasks of the model's shadow models, and say what to do with them."""
    from nanoprune.lab.tasks.fleet import PER_TASK, plan

    _write(plan(model, dataset, shadows, per_task or PER_TASK), folder, "they name the members, as the model file does")


def write_seeds(dataset: Any, recipe: Any, seeds: Any, methods: str, folder: pathlib.Path) -> None:
    """Write the tasks of a comparison, one a seed."""
    from nanoprune.lab.tasks.comparison import seed_tasks

    _write(seed_tasks(dataset, recipe, seeds, methods), folder, "one for each seed")


def _write(tasks: Any, folder: pathlib.Path, about: str) -> None:
    from nanoprune.lab.tasks.fleet import write_plan

    write_plan(tasks, folder)
    click.echo(f"{folder}: task-0.json to task-{len(tasks) - 1}.json; {about}")


@contextlib.contextmanager
def trainer(
    store: str | pathlib.Path | None, executor: str | None, per_task: int | None, threads: int, machine: tuple
) -> Iterator[Callable | None]:
    """What trains shadow models as tasks with results in `store`; None without one. machine: for `machine_of`."""
    from nanoprune.lab.tasks.fleet import PER_TASK, Fleet
    from nanoprune.lab.tasks.perform import machine_of

    if store is None:
        yield None
        return
    with Fleet(store, executor or "local", threads, machine_of(*machine), per_task or PER_TASK) as fleet:
        yield fleet.train


def gathered(
    comparison: tuple,
    store: str | pathlib.Path | None,
    executor: str | None,
    threads: int,
    machine: tuple,
    progress: Any,
) -> Any:
    """The training of a comparison, as tasks with results in `store`; None without one. comparison: arguments of
    `seed_tasks`; machine: of `machine_of`."""
    from nanoprune.lab.tasks.comparison import seed_tasks
    from nanoprune.lab.tasks.fleet import Fleet
    from nanoprune.lab.tasks.perform import machine_of

    if store is None:
        return None
    with Fleet(store, executor or "local", threads, machine_of(*machine)) as fleet:
        return fleet.gather(seed_tasks(*comparison), progress)
