"""How the command line looks and fails: progress bars, one-line errors, types of options."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from nanoprune.errors import NanopruneError, Stopped


class ProgressBars:
    """Bars with the time left on standard error; nothing at all where that is not a terminal."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        console = Console(stderr=True)
        self.bars = Bars(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            redirect_stdout=sys.stdout.isatty(),
        )
        self.task: Any = None

    def __enter__(self) -> ProgressBars:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def start(self, stage: str, total: int) -> None:
        """A new stage of `total` steps; the one before stays, complete."""
        self.task = self.bars.add_task(stage, total=total)

    def advance(self, steps: int = 1) -> None:
        """Some steps of the stage are done."""
        self.bars.advance(self.task, steps)

    def reach(self, stage: str, done: int, total: int | None) -> None:
        """`done` of `total` steps of `stage` are done."""
        if self.task is None or self.bars.tasks[self.task].description != stage:
            self.start(stage, total)
        self.bars.update(self.task, completed=done, total=total)


class Commands(click.Group):
    """Turns every error of the input into one line on standard error and exit status 2."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line; with `standalone_mode` (a process of its own) exit with its status."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)
        try:
            status = super().main(*args, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            status = 2
        except click.ClickException as error:
            status = _fail(error.format_message(), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            status = _fail("interrupted", 130)
        except Stopped as error:
            status = _fail(str(error), 128 + error.signal)
        except NanopruneError as error:
            status = _fail(str(error), 2)
        except BrokenPipeError:  # whoever read our output, such as head, has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 1
        except MemoryError as error:
            status = _fail(f"out of memory ({error}); give it fewer records, seeds or threads", 2)
        sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> int:
    click.echo("error: " + " ".join(message.split()), err=True)
    return status


class Members(click.ParamType):
    """A number of members, or "all"."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        try:
            return value if value == "all" else int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor all", param, ctx)


class Exempt(click.ParamType):
    """Names of layers with commas between them, or "none"."""

    name = "LAYER[,...]|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return () if value == "none" else tuple(value.split(",")) if isinstance(value, str) else value


class Numbers(click.ParamType):
    """Numbers with commas between them."""

    name = "NUMBER,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        try:
            return [float(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is not numbers with commas between them", param, ctx)


class Keep(click.ParamType):
    """A ratio for all layers, or one a layer with commas between them."""

    name = "RATIO[,...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            ratios = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a ratio in (0, 1] or several with commas between them", param, ctx)
        return ratios if len(ratios) > 1 else ratios[0]
