"""The look of the command line: help, tables, one-line errors."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from nanoprune.errors import NanopruneError, Stopped
from nanoprune.lab.engine.progress import ProgressBars as ProgressBars
from nanoprune.lab.storage.text import printable

if TYPE_CHECKING:
    from nanoprune.lab.report.text_table import TextTable

PROGRAM = "python cli.py"  # how texts of this package call it; shown is the name that it was called by
LONGEST = 2000  # characters of an error


def called() -> str:
    """The name that the program was called by: nanoprune, python cli.py or python -m nanoprune."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    return {"cli.py": PROGRAM, "__main__.py": "python -m nanoprune"}.get(name, "nanoprune")


def renamed(text: str) -> str:
    """`text` with the name that the program was called by instead of the usual one."""
    return text.replace(PROGRAM, called())


def show(table: TextTable, err: bool = False) -> None:
    """Print a table: as wide as the terminal, but never so narrow that a column or a word is lost.

    Lines that do not fit are wrapped by the terminal. Where the output is no terminal and COLUMNS is not set, a table
    is as wide as it needs to be, so that each row is a line. Without rich a table is aligned text.
    """
    try:
        from rich.console import Console
        from rich.measure import Measurement
    except ImportError:
        click.echo(table.plain(), err=err)
        return
    console = Console(stderr=err)
    measured = Measurement.get(console, console.options.update(max_width=10_000), table)
    free = not console.is_terminal and "COLUMNS" not in os.environ
    width = max(console.width, measured.maximum if free else measured.minimum)
    Console(width=width, stderr=err).print(table, crop=False, soft_wrap=False)


def shown(value: Any) -> Any:
    """Plain data from a file with every text in it made fit for a terminal: no control characters, no endless lines."""
    if isinstance(value, str):
        return printable(value, LONGEST)
    if isinstance(value, dict):
        return {shown(key): shown(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(inner) for inner in value]
    return value


class Command(click.Command):
    """A command whose help is given as text (Python drops docstrings under -OO) and shows every default."""

    def __init__(self, *args: Any, context_settings: dict[str, Any] | None = None, **extra: Any) -> None:
        super().__init__(*args, context_settings={"show_default": True} | (context_settings or {}), **extra)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Click's, with the names of data sets and attacks, and in examples the name that the program was called by."""
        if self.help and "{datasets}" in self.help:
            from nanoprune.lab.data.catalogue import NAMES

            self.help = self.help.replace("{datasets}", ", ".join(NAMES))
        if self.help and "{attacks}" in self.help:
            from nanoprune.lab.audit.shadow_attacks import table_text

            self.help = self.help.replace("{attacks}", table_text())
        super().format_help(ctx, formatter)
        formatter.buffer[:] = [renamed(part) for part in formatter.buffer]


class Commands(Command, click.Group):
    """The group of all commands: errors are one line on standard error and exit status 2, not tracebacks."""

    command_class = Command

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line; with `standalone_mode` (a process of its own) exit with its status."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a character that its encoding has not is no error
        if extra.get("prog_name") is None:
            extra["prog_name"] = called()
        try:
            status = _status(lambda: super(Commands, self).main(*args, standalone_mode=False, **extra))
        finally:
            _flush()
        sys.exit(status)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Click's; an unknown command is told with the ones that it may be meant to be."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), cutoff=0.5)
            if near and type(error) is click.UsageError:  # newer versions of click say so themselves
                error.message = f"No such command {printable(args[0], 40)!r}; did you mean {' or '.join(near)}?"
            raise


def _status(run: Any) -> int:
    """The exit status of the program; errors are printed."""
    try:
        status = run()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except Stopped as error:
        return _fail(str(error), 128 + error.signal)
    except NanopruneError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # whoever read our output, such as head, has gone
        _discard(sys.stdout)
        return 1
    except MemoryError as error:
        return _fail(f"out of memory ({error}); give it fewer records, seeds or threads", 2)
    except OSError as error:
        return _fail(_of_system(error), 2)
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        return _fail("no thread can be started: the limit on processes is reached; lower --threads", 2)


def _of_system(error: OSError) -> str:
    """What to say of an error of the operating system that no reader or writer of files has put into words."""
    try:
        os.getcwd()
    except OSError:
        return "the current folder is gone; change to one that exists"
    if error.filename is None:
        _discard(sys.stdout)  # most often it is standard output that failed; it must not fail again at the exit
    of = f"{error.filename}: " if error.filename else ""
    return f"{of}{error.strerror or error}"


def _fail(message: str, status: int) -> int:
    try:
        click.echo("error: " + printable(renamed(" ".join(message.split())), LONGEST), err=True)
    except OSError:  # standard error is full or closed: the status alone can tell
        _discard(sys.stderr)
    return status


def _discard(stream: Any) -> None:
    """Send what is left in a stream's buffer nowhere, so that Python does not fail on it again when it exits."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number, devnull = stream.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, number)
        os.close(devnull)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _discard(stream)
