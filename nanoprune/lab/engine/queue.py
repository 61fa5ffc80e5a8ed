"""Functions that need something done in their middle, run so that it is done for all of them together.

A method of a comparison prepares its networks, has them trained, and goes on with the result. Where several methods do
not need one another, the processors should have one queue with the training of all.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any


class Queue:
    """`run` runs several functions, and answers what they `ask` meanwhile: answer([request, ...]) -> [reply, ...].

    Each function has a thread of its own, as a coroutine: only one runs at a time, until it asks or ends, and `answer`
    is called in the thread of `run` once every function waits or has ended. So functions need no locks, and processes
    are forked by that thread alone where no other runs.
    """

    def __init__(self, answer: Callable[[list[Any]], list[Any]]) -> None:
        self._answer, self._here = answer, threading.local()

    def ask(self, request: Any) -> Any:
        """The reply to a request; outside of `run` at once."""
        return self._asks()([request])[0]

    def run(self, functions: Sequence[Callable[[], Any]]) -> list[Any]:
        """[function() for each function]; a function may run others so. The first exception, of a function or of
        `answer`, ends them all and is raised."""
        answer, calls = self._asks(), [_Call(function, self._here) for function in functions]
        try:
            for call in calls:
                call.resume([])
            while waiting := [call for call in calls if call.waits]:
                replies = iter(answer([request for call in waiting for request in call.requests]))
                for call in waiting:
                    call.resume([next(replies) for _ in call.requests])
            return [call.result for call in calls]
        finally:
            for call in calls:
                call.abandon()

    def _asks(self) -> Callable[[list[Any]], list[Any]]:
        """How the present thread gets replies."""
        call = getattr(self._here, "call", None)
        return call.ask if call else self._answer


class _Abandoned(BaseException):
    """Ends a function that waits for a reply which does not come."""


class _Call:
    """One function in a thread; `resume` lets it run until it asks or ends."""

    def __init__(self, function: Callable[[], Any], here: threading.local) -> None:
        self.waits, self.requests, self.result = False, [], None
        self._function, self._here, self._error, self._replies = function, here, None, []
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        context = contextvars.copy_context()  # NumPy keeps its handling of errors there
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)

    def resume(self, replies: list[Any] | None) -> None:
        """Start the function, or give it the replies that it waits for; None to end it. Raises what it raises."""
        self._replies = replies
        if self.waits:
            self._turn.release()
        else:
            self._thread.start()
        self._back.acquire()
        if self._error:
            raise self._error

    def ask(self, requests: list[Any]) -> list[Any]:
        """In the function's thread: wait for the replies to requests."""
        self.requests, self.waits = requests, True
        self._back.release()
        self._turn.acquire()
        self.waits = False
        if self._replies is None:
            raise _Abandoned
        return self._replies

    def abandon(self) -> None:
        """End the function where it waits."""
        with contextlib.suppress(BaseException):  # another error is raised already
            while self.waits:
                self.resume(None)

    def _run(self) -> None:
        self._here.call = self
        try:
            self.result = self._function()
        except _Abandoned:
            pass
        except BaseException as error:
            self._error = error
        self._back.release()
