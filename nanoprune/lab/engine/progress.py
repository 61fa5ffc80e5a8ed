"""Progress of long work, for a person: bars where they can be drawn, lines elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from nanoprune.lab.storage.text import printable

if TYPE_CHECKING:
    from rich.console import Console  # rich is imported where it draws: it takes as long as all else that --help needs

PERIOD = 30.0  # seconds between two lines of progress where there are no bars


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    try:
        from rich.console import Console
    except ImportError:
        return False
    return Console(stderr=True).is_jupyter


def can_draw_in_notebook(console: Console) -> bool:
    """Whether rich can draw bars in the notebook: it needs ipywidgets, and warns where that is missing."""
    return console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None


def drawn_bars() -> Any:
    """rich's bars, disabled where they cannot be drawn; NoBars where rich is not installed."""
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return NoBars()
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    console = Console(stderr=True)
    return progress.Progress(
        *columns,
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        disable=not (console.is_terminal or can_draw_in_notebook(console)),
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )


class NoBars:
    """What ProgressBars calls of rich's bars, without effect."""

    disable = True

    def start(self) -> None:
        """Draws nothing."""

    def stop(self) -> None:
        """Draws nothing."""

    def add_task(self, description: str, total: int | None) -> int:
        """A task's number."""
        return 0

    def advance(self, task: int, steps: int) -> None:
        """Draws nothing."""

    def update(self, task: int, completed: int, total: int | None) -> None:
        """Draws nothing."""


class ProgressBars:
    """Progress on standard error: bars with the time left on a terminal or in a notebook, elsewhere a line every PERIOD
    seconds.

    The lines come by a timer too, so that a long step is seen to go on. Forked processes do not inherit it.
    """

    def __init__(self) -> None:
        self.bars = drawn_bars()
        self.task: Any = None
        self.stage, self.total, self.done = "", 0, 0
        self.began = self.reported = time.monotonic()
        self.before: Any = None  # the handler of the timer's signal

    def __enter__(self) -> ProgressBars:
        self.bars.start()
        in_main = threading.current_thread() is threading.main_thread()
        if self.bars.disable and in_main and hasattr(signal, "setitimer"):
            self.before = signal.signal(signal.SIGALRM, lambda *_: self._tell())
            signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)
        return self

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)
        self.bars.stop()

    def start(self, stage: str, total: int | None) -> None:
        """A new stage of `total` steps begins; the bar of the last one stays, complete."""
        self.task = self.bars.add_task(printable(stage), total=total)
        self.stage, self.total, self.done, self.began = printable(stage), total or 0, 0, time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """So many more steps of the stage are done."""
        self.bars.advance(self.task, steps)
        self.done += steps
        self._tell()

    def reach(self, stage: str, done: int, total: int | None) -> None:
        """`done` of `total` steps of `stage` are done."""
        if self.task is None or self.stage != printable(stage):
            self.start(stage, total)
        self.bars.update(self.task, completed=done, total=total)
        self.done, self.total = done, total or 0
        self._tell()

    def _tell(self) -> None:
        """Where there are no bars, a line now and then: what is done, how long it took, how long the rest will take."""
        now = time.monotonic()
        if not self.bars.disable or not self.stage or now - self.reported < 0.9 * PERIOD:
            return
        self.reported, spent = now, now - self.began
        share = f"{self.done:,} of {self.total:,}" if self.total else f"{self.done:,}"
        left = f", about {_minutes(spent * (self.total / self.done - 1))} left" if self.done and self.total else ""
        with contextlib.suppress(RuntimeError):  # the timer came while another line was being written
            print(f"{self.stage}: {share}, {_minutes(spent)}{left}", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
