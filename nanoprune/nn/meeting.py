"""Where the workers that share the samples of one batch add up what each has of its own part."""

from __future__ import annotations

import functools
import operator
import threading


class Meeting:
    """A sum over `workers` threads, as often as all of them ask for one; each has its place, counted from 0.

    The sum runs in the order of the places, whoever comes last, so that its bits are the same every time. A worker that
    fails calls `abort`: then the others do not wait for it, and `total` raises threading.BrokenBarrierError there.
    """

    def __init__(self, workers: int) -> None:
        self._brought: list[tuple] = [()] * workers
        self._totals: tuple = ()
        self._barrier = threading.Barrier(workers, action=self._add)

    def total(self, place: int, values: tuple) -> tuple:
        """Each of the values summed over the workers, who all bring as many, and all get the same arrays: only to read.

        The next sum is taken when all have come for it, so nobody still waits for this one.
        """
        self._brought[place] = values
        self._barrier.wait()
        return self._totals

    def abort(self) -> None:
        """A worker will not come any more."""
        self._barrier.abort()

    def _add(self) -> None:
        self._totals = tuple(functools.reduce(operator.add, parts) for parts in zip(*self._brought, strict=True))
