"""Where tasks are performed: workers that die, drivers that are killed, clusters that strangers reach."""

import contextlib
import dataclasses
import functools
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool

import pytest
from processes import alive, gone
from workers import half_a_result, performed, pid, slow

from benchmarks.certificates import certificates
from nanoprune.errors import ArgumentError, WorkerError
from nanoprune.lab.data import load
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.tasks import driver
from nanoprune.lab.tasks.driver import run_tasks
from nanoprune.lab.tasks.engines import check_engine, open_engine
from nanoprune.lab.tasks.fleet import shadow_tasks, write_plan
from nanoprune.lab.tasks.local import LocalExecutor
from nanoprune.lab.tasks.perform import Machine, perform
from nanoprune.lab.tasks.store import Store
from nanoprune.lab.workflow.single_model import train_model
from nanoprune.schedule import Schedule

ROOT = pathlib.Path(__file__).parents[1]
LONG = 120  # seconds after which something hangs
linux = pytest.mark.skipif(sys.platform != "linux", reason="processes as Linux has them")


@functools.cache
def tasks():
    digits = load("digits")
    changes = {"widths": (12,), "members": 40, "reference": 20, "nonmembers": 40, "minmax": 0.0}
    plan = dataclasses.replace(recipe_for(digits, 40, network="mlp"), dense=Schedule(epochs=40, batch=8), **changes)
    return shadow_tasks(train_model(digits, plan, 0, 1), 12)


@functools.cache
def expected() -> dict[str, bytes]:
    """The files of the store, as this process makes them."""
    return {f"{task.sha256}.h5": perform(task.text) for task in tasks()}


def stored(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextlib.contextmanager
def process(*words, env=None, **options):
    """A program that is killed at the end."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    with subprocess.Popen([str(w) for w in words], env=environment, **options) as of:
        try:
            yield of
        finally:
            of.kill()


def command(*words):
    return [sys.executable, ROOT / "cli.py", "task", *words]


@pytest.fixture
def plan(tmp_path):
    write_plan(tasks(), tmp_path / "plan")
    return sorted((tmp_path / "plan").iterdir())


def until(condition, what="it"):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, f"waited {LONG} s for {what}"
        time.sleep(0.02)


def until_a_result(store: pathlib.Path, of: subprocess.Popen) -> None:
    """Wait until the store has a result, or the process has ended."""
    until(lambda: of.poll() is not None or any(store.glob("[!.]*.h5")), "a result")


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["local", "mpi", "dask://localhost:8786", "dask://127.0.0.1:1", "dask://[::1]:80", "dask+tls://node-1.lab:8786"],
)
def test_engines_that_are_accepted(name):
    check_engine(name)


@pytest.mark.parametrize(
    "name",
    ["dask://10.0.0.1:8786", "dask://node:8786", "dask://0.0.0.0:1", "dask://[2001:db8::1]:1", "dask://localhost.x:1"],
)
def test_a_scheduler_that_others_reach_needs_tls(name):
    with pytest.raises(ArgumentError, match=r"without TLS.*dask\+tls://HOST:PORT"):
        check_engine(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ray",
        "dask",
        "tcp://127.0.0.1:1",
        "dask://localhost",
        "dask+tls://u@h:1",
        "dask://localhost:1/x",
        "local://",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ArgumentError, match="must be local, mpi"):
        check_engine(name)


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("distributed", "dask://localhost:1", "fleet"), ("mpi4py.futures", "mpi", "mpi")],
)
def test_a_package_that_is_missing_is_named(module, name, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ArgumentError, match=f"install the extra {extra}"), open_engine(name, 1):
        pass


# --- processes of this machine ---------------------------------------------------------------------------------------


@linux
def test_a_worker_that_dies_breaks_its_own_task_alone():
    with LocalExecutor(2) as executor:
        pids = [future.result(LONG) for future in [executor.submit(pid) for _ in range(2)]]
        assert len({*pids, os.getpid()}) == 3
        lost, kept = executor.submit(slow, 60), executor.submit(slow, 1)
        until(lambda: all(len(running) == 1 for running in executor.running))
        os.kill(pids[0], signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):
            lost.result(LONG)
        assert kept.result(LONG) == pids[1]
        assert executor.submit(pid).result(LONG) not in pids  # in a new one
    assert gone(pids)


@linux
def test_workers_are_ended_with_their_tasks_where_these_are_given_up():
    executor = LocalExecutor(2)
    pids = [future.result(LONG) for future in [executor.submit(pid) for _ in range(2)]]
    futures = [executor.submit(slow, 60) for _ in range(2)]
    executor.shutdown(cancel_futures=True)
    assert gone(pids)
    until(lambda: all(future.done() for future in futures), "the futures")


@linux
def test_a_task_whose_worker_died_is_given_to_another(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "perform", performed)
    mark = tmp_path / "mark"
    some = [dataclasses.replace(tasks()[0], where=f"once {mark}"), tasks()[1]]
    with open_engine("local", 2) as engine:
        assert engine.retries >= 2
        run_tasks(some, Store(tmp_path / "store"), engine, Machine(), Progress())
    assert mark.exists()
    assert stored(tmp_path / "store") == {f"{task.sha256}.h5": expected()[f"{task.sha256}.h5"] for task in some}


@linux
def test_a_task_that_kills_its_workers_is_named_and_the_others_stay_done(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "perform", performed)
    store, poison = Store(tmp_path), dataclasses.replace(tasks()[1], where="poison")
    store.put(tasks()[0], expected()[f"{tasks()[0].sha256}.h5"])
    with open_engine("local", 2) as engine, pytest.raises(WorkerError) as error:
        run_tasks([tasks()[0], poison], store, dataclasses.replace(engine, retries=1), Machine(), Progress())
    assert str(error.value).startswith(f"poison ({poison.sha256[:12]}): every worker that had it died")
    assert [path.name for path in tmp_path.iterdir()] == [f"{tasks()[0].sha256}.h5"]  # nothing is claimed any more


@linux
def test_a_worker_that_dies_within_its_result_breaks_its_future_alone():
    """It hung: the pool waited for the rest of the result, and the end of the process for the pool."""
    executor = LocalExecutor(2)
    dead, other = executor.submit(half_a_result), executor.submit(pid)
    with pytest.raises(BrokenProcessPool):
        dead.result(timeout=LONG)
    assert other.result(timeout=LONG) != os.getpid()
    assert executor.submit(pid).result(timeout=LONG)
    executor.shutdown(wait=False, cancel_futures=True)


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_leaves_no_worker_and_what_was_stored(number, plan, tmp_path):
    store = tmp_path / "store"
    words = command(*plan, "--store", store, "--threads", 2)
    with process(*words) as of:
        until_a_result(store, of)
        workers = children(of.pid)
        of.send_signal(number)
        _, said = of.communicate(timeout=LONG)
    assert gone(workers)
    before = {path.name: path.stat().st_mtime_ns for path in store.glob("[!.]*.h5")}
    if number == signal.SIGINT and of.returncode:
        assert of.returncode == 130
        assert "finished tasks are in" in said.splitlines()[-1]
        assert "Traceback" not in said
    with process(*words) as again:
        assert again.communicate(timeout=LONG)[1] == ""
    assert again.returncode == 0
    assert stored(store) == expected()
    assert {name: (store / name).stat().st_mtime_ns for name in before} == before  # nothing was done twice


def children(parent: int) -> list[int]:
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return [of for of in found if alive(of)]


# --- MPI -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not importlib.util.find_spec("mpi4py"), reason="mpi4py is not installed")
def test_the_ranks_of_an_mpi_job_give_the_same_bytes(plan, tmp_path):
    mpiexec = shutil.which("mpiexec", path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    if mpiexec is None:
        pytest.skip("no mpiexec")
    words = [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", ROOT / "cli.py", "task", *plan]
    with process(*words, "--store", tmp_path / "store", "--executor", "mpi") as of:
        said = of.communicate(timeout=LONG)
    assert of.returncode == 0, said
    assert stored(tmp_path / "store") == expected()


# --- dask ------------------------------------------------------------------------------------------------------------

dask = pytest.mark.skipif(not importlib.util.find_spec("distributed"), reason="distributed is not installed")
openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make certificates with")


@contextlib.contextmanager
def cluster(folder: pathlib.Path, env: dict[str, str], protocol: str = "tls", workers: int = 2):
    """A scheduler and workers, as docs/fleets.md starts them; yields the port, the scheduler and the workers."""
    port_file = folder / "scheduler.json"
    dask_ = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with contextlib.ExitStack() as stack:
        words = [*dask_, "scheduler", "--protocol", protocol, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        scheduler = stack.enter_context(process(*words, "--scheduler-file", port_file, env=env, cwd=folder, **quiet))
        until(port_file.exists, "the scheduler")
        until(lambda: '"address"' in port_file.read_text(), "the scheduler's address")
        port = int(port_file.read_text().split(f"{protocol}://127.0.0.1:")[1].split('"')[0])
        words = [*dask_, "worker", f"{protocol}://127.0.0.1:{port}", "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        yield (
            port,
            scheduler,
            [stack.enter_context(process(*words, env=env, cwd=folder, **quiet)) for _ in range(workers)],
        )


@dask
@openssl
@linux
def test_a_cluster_over_tls_gives_the_same_bytes_and_refuses_strangers(plan, tmp_path):
    ours, theirs = certificates(tmp_path / "ours"), certificates(tmp_path / "theirs")
    store = tmp_path / "store"
    with cluster(tmp_path, ours) as (port, _, workers):
        words = command(*plan, "--store", store, "--executor", f"dask+tls://127.0.0.1:{port}")
        for environment, reason in ((theirs, "not reached"), ({}, "has no distributed.comm.tls.ca-file")):
            with process(*words, env=environment) as of:
                _, said = of.communicate(timeout=LONG)
            assert of.returncode == 2, said
            line = said.splitlines()[-1]
            assert line.startswith("error: --executor dask+tls://")
            assert reason in line
        plain = [f"dask://127.0.0.1:{port}" if word.startswith("dask+tls") else word for word in map(str, words)]
        with process(*plain) as of:
            _, said = of.communicate(timeout=LONG)
        assert of.returncode == 2
        assert "not reached" in said.splitlines()[-1]
        with process(*words, env=ours) as of:
            until_a_result(store, of)
            workers[0].kill()  # the other one does its task
            _, said = of.communicate(timeout=LONG)
        assert of.returncode == 0, said
        assert "Traceback" not in said
    assert stored(store) == expected()


@dask
@linux
def test_a_scheduler_that_dies_ends_the_command_and_loses_nothing_that_is_stored(plan, tmp_path):
    store, before = tmp_path / "store", {}
    for round_ in ("killed", "whole"):
        (tmp_path / round_).mkdir()
        with (
            cluster(tmp_path / round_, {}, "tcp", workers=1) as (port, scheduler, _),
            process(*command(*plan, "--store", store, "--executor", f"dask://localhost:{port}")) as of,
        ):
            if round_ == "killed":
                until_a_result(store, of)
                scheduler.kill()
            _, said = of.communicate(timeout=LONG)
        if of.returncode:  # it was not done already
            assert round_ == "killed"
            assert of.returncode == 2, said
            (line,) = said.splitlines()
            assert line.startswith(f"error: --executor dask://localhost:{port}: is gone (")
            before = {path.name: path.stat().st_mtime_ns for path in store.glob("[!.]*.h5")}
    assert of.returncode == 0, said
    assert stored(store) == expected()
    assert {name: (store / name).stat().st_mtime_ns for name in before} == before


def test_executors_are_those_of_the_standard_library():
    assert issubclass(LocalExecutor, Executor)
