"""Where tasks are performed, chosen by a name: each engine is an executor of `concurrent.futures`.

local                  worker processes of this machine; with one worker, this process
mpi                    the ranks of an MPI job (mpi4py.futures)
dask://HOST:PORT       a dask cluster whose scheduler listens on this machine only
dask+tls://HOST:PORT   a dask cluster over TLS, where both ends show certificates of one authority

Whoever talks to dask's scheduler or to an MPI job can run code on it: they exchange pickles. So a connection that
others could make is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import ipaddress
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

from nanoprune.errors import ArgumentError, NanopruneError, WorkerError
from nanoprune.lab.storage.bounded import first_line
from nanoprune.lab.storage.text import printable
from nanoprune.lab.tasks.local import InProcess, LocalExecutor

RETRIES = 3  # workers that may die of a task before it is given up
CONNECT = 20.0  # seconds
ADDRESS = re.compile(r"(?P<scheme>dask|dask\+tls)://(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+):(?P<port>\d{1,5})", re.ASCII)
LOGGERS = ("distributed", "distributed.client", "distributed.core")
TLS = ("ca-file", "client.cert", "client.key")  # below distributed.comm.tls in dask's configuration


@dataclasses.dataclass
class Engine:
    """An executor, and how to use it.

    most: how many tasks to have in flight. give_up: ends it, with the tasks in flight. lost: what a future raises whose
    worker died. retries: how often such a task is submitted again; 0 where the executor itself does so.
    """

    name: str
    executor: Executor
    most: Callable[[], int]
    give_up: Callable[[], None]
    lost: tuple[type[BaseException], ...] = (BrokenExecutor,)
    retries: int = 0

    def window(self) -> int:
        """How many tasks to have in flight now. Raises WorkerError where the engine is gone."""
        with self.reached():
            return self.most()

    def submit(self, function: Callable, *args: Any) -> Future:
        """The future of function(*args) on a worker. Raises WorkerError where the engine is gone."""
        with self.reached():
            return self.executor.submit(function, *args)

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """A context in which errors that are not of this package mean that the engine is gone: WorkerError."""
        try:
            yield
        except NanopruneError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {first_line(error)}"
            raise WorkerError(
                f"--executor {self.name}: is gone ({what}); the same command does what is not stored yet"
            ) from error


def check_engine(name: str) -> None:
    """ArgumentError unless `name` is one of the engines above, and safe to connect to."""
    if name in ("local", "mpi"):
        return
    found = ADDRESS.fullmatch(name)
    if not found:
        raise ArgumentError(
            f"--executor must be local, mpi, dask://HOST:PORT or dask+tls://HOST:PORT, got {printable(name, 60)}"
        )
    if found["scheme"] == "dask" and not _on_this_machine(found["host"]):
        raise ArgumentError(
            f"--executor {name}: whoever reaches a dask scheduler without TLS runs code on the cluster; beyond this "
            "machine give dask+tls://HOST:PORT"
        )


def _on_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def open_engine(name: str, workers: int) -> Iterator[Engine]:
    """The engine `name`; workers: how many there are, of those that this process starts. Where the block raises, tasks
    in flight are given up. Raises ArgumentError where it cannot be used here, WorkerError where it is not reached."""
    check_engine(name)
    with contextlib.ExitStack() as stack:
        engine = _MAKERS[name.partition("://")[0]](name, workers, stack)
        try:
            yield engine
        except BaseException:
            with contextlib.suppress(Exception):  # what ended the block is the error to tell
                engine.give_up()
            raise
        engine.executor.shutdown()


def _local(name: str, workers: int, stack: contextlib.ExitStack) -> Engine:
    executor = LocalExecutor(workers) if workers > 1 else InProcess()
    give_up = functools.partial(executor.shutdown, wait=False, cancel_futures=True)
    return Engine(name, executor, lambda: workers, give_up, retries=RETRIES)


def _mpi(name: str, workers: int, stack: contextlib.ExitStack) -> Engine:
    try:
        from mpi4py.futures import MPIPoolExecutor

        executor = MPIPoolExecutor(workers)
        executor.bootup()
    except (ImportError, RuntimeError) as error:
        raise ArgumentError(
            f"--executor mpi: mpi4py or an MPI library is missing ({first_line(error)}); install the extra mpi"
        ) from error
    give_up = functools.partial(executor.shutdown, wait=False, cancel_futures=True)
    return Engine(name, executor, lambda: max(1, executor.num_workers), give_up)


def _dask(name: str, workers: int, stack: contextlib.ExitStack) -> Engine:
    try:
        import distributed
    except ImportError as error:
        raise ArgumentError(f"--executor {name}: distributed is not installed; install the extra fleet") from error
    for logger in LOGGERS:
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # what goes wrong is an error of ours, in one line
    secure, address = name.startswith("dask+tls"), name.partition("://")[2]
    security = _certificates(name) if secure else None
    try:
        client = distributed.Client(
            f"{'tls' if secure else 'tcp'}://{address}", security=security, timeout=CONNECT, set_as_default=False
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise WorkerError(f"--executor {name}: not reached ({first_line(error)})") from error
    stack.callback(client.close)
    executor = client.get_executor(pure=False)

    def most() -> int:
        # workers come and go. No task is ahead of them: dask would tie it to one, while another has nothing to do
        return max(1, sum(client.nthreads().values()))

    give_up = functools.partial(executor.shutdown, wait=False)
    return Engine(name, executor, most, give_up, (distributed.KilledWorker,))


def _certificates(name: str) -> Any:
    """dask's own settings for TLS, with which both ends show their certificates."""
    import dask.config
    from distributed.security import Security

    missing = [key for key in TLS if not dask.config.get(f"distributed.comm.tls.{key}", None)]
    if missing:
        raise ArgumentError(
            f"--executor {name}: dask's configuration has no distributed.comm.tls.{missing[0]}; docs/fleets.md shows "
            "the three that are needed"
        )
    return Security(require_encryption=True)


_MAKERS: dict[str, Callable[[str, int, contextlib.ExitStack], Engine]] = {
    "local": _local,
    "mpi": _mpi,
    "dask": _dask,
    "dask+tls": _dask,
}
