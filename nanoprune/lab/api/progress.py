"""Progress bars and numbers of workers, in scripts and in notebooks."""

from __future__ import annotations

import contextlib
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.api.arguments import expect
from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.engine.progress import ProgressBars, in_notebook
from nanoprune.lab.experiment.experiment import Progress


def progress_for(verbose: bool | None) -> contextlib.AbstractContextManager[Any]:
    """Bars where `verbose`; None: in a notebook, where somebody watches. Scripts are quiet by default."""
    expect("verbose", verbose, "True or False", "None")
    shown = in_notebook() if verbose is None else bool(verbose)
    return ProgressBars() if shown else contextlib.nullcontext(Progress())


def threads_for(n_jobs: int | None) -> int:
    """The number of processes at most, by scikit-learn's convention: None is 1, -1 one for each processor."""
    if n_jobs is None:
        return 1
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs == 0:
        raise ArgumentError(
            f"n_jobs must be a number of processes, -1 for one a processor, or None for 1, got {n_jobs!r}"
        )
    return n_jobs if n_jobs > 0 else max(1, default_threads() + 1 + n_jobs)
