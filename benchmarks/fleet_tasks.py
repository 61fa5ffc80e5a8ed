"""The shadow models of a small model as tasks: each engine's bytes and seconds, and what is left after kills.

    python benchmarks/fleet_tasks.py                          64 shadow models by each engine, 2 workers each
    python benchmarks/fleet_tasks.py --shadows 16 --kills 20  fewer, and 20 SIGKILLs to workers and drivers

An MLP on the embedded digits, two shadow models in a task; --epochs makes tasks longer. Every engine gets the files of
one plan and a store of its own. Seconds are those of `nanoprune task`, the start of Python and of its workers included,
of a dask cluster not. dask and MPI are left out where distributed, or mpi4py and mpiexec, are not installed.

What must hold, else the exit status is 1: all stores have the same bytes (their hash is printed), which are the bits of
`train_shadows`, after kills too; and no result that was stored is ever written again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from nanoprune.lab.audit.shadows import Shadows, train_shadows
from nanoprune.lab.data import load
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.tasks.fleet import joined, shadow_tasks, write_plan
from nanoprune.lab.tasks.store import Store
from nanoprune.lab.workflow.single_model import train_model
from nanoprune.schedule import Schedule

ROOT = pathlib.Path(__file__).parents[1]
WORKERS = 2
CLUSTER = f"""
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers={WORKERS}, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address.replace("tcp://", "dask://"), flush=True)
        sys.stdin.read()
"""
TASK = [sys.executable, str(ROOT / "cli.py"), "task"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Engines that perform tasks: their bytes, their seconds, and kills.")
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=60, help="of each shadow model")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--kills", type=int, default=0, help="SIGKILLs to workers and drivers")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    given = parser.parse_args()
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    dataset = load("digits")
    recipe = recipe_for(dataset, 400, network="mlp", minmax=0.0)
    recipe = dataclasses.replace(recipe, dense=Schedule(epochs=given.epochs, batch=32, lr=0.05))
    model = train_model(dataset, recipe, 0, 1)
    tasks = shadow_tasks(model, given.shadows)
    print(f"{given.shadows} shadow models in {len(tasks)} tasks, {given.epochs} epochs, {WORKERS} workers\n")
    print("| engine | seconds | SHA-256 of the store |\n| :--- | ---: | :--- |")
    began = time.perf_counter()
    plain = train_shadows(model, dataset, given.shadows, WORKERS, Progress())
    print(f"| none: `train_shadows` in one process that is running | {time.perf_counter() - began:.1f} | |", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        write_plan(tasks, folder / "plan")
        files = sorted(str(path) for path in (folder / "plan").iterdir())
        hashes = set()
        for name in given.engines:
            store = folder / name
            with ENGINES[name]() as commands:
                began = time.perf_counter()
                shells = [
                    subprocess.Popen([*of, *files, "--store", store], stdout=subprocess.DEVNULL) for of in commands
                ]
                statuses = [shell.wait() for shell in shells]
                if any(statuses):
                    return 1
                seconds = time.perf_counter() - began
            if shells:
                hashes.add(content(store))
                print(f"| {name} | {seconds:.1f} | {content(store)[:16]} |", flush=True)
        if given.kills:
            hashes.add(killed([*TASK, *files, "--store", str(folder / "kills"), "--threads", str(WORKERS)], given))
        parts = [Store(folder / given.engines[0]).read(task) for task in tasks]
    same = len(hashes) == 1 and bits(joined(parts)) == bits(plain)
    print("\nthe same bytes in every store, and the bits of `train_shadows`" if same else "\nNOT THE SAME BYTES")
    return 0 if same else 1


def content(store: pathlib.Path) -> str:
    """SHA-256 over the names and the bytes of all results."""
    digest = hashlib.sha256()
    for path in sorted(store.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def bits(of: Shadows) -> list[bytes]:
    return [a.tobytes() for a in (of.inside, *of.logits.values(), *of.population.values())]


@contextlib.contextmanager
def local() -> Iterator[list[list[str]]]:
    yield [[*TASK, "--threads", str(WORKERS)]]


@contextlib.contextmanager
def two_shells() -> Iterator[list[list[str]]]:
    yield [TASK] * WORKERS


@contextlib.contextmanager
def mpi() -> Iterator[list[list[str]]]:
    """The ranks of a job: one gives the tasks to the others."""
    mpiexec = shutil.which("mpiexec", path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    there = mpiexec and importlib.util.find_spec("mpi4py")
    ranks = [mpiexec, "-n", str(WORKERS + 1), sys.executable, "-m", "mpi4py.futures", *TASK[1:], "--executor", "mpi"]
    yield [ranks] if there else []


@contextlib.contextmanager
def dask() -> Iterator[list[list[str]]]:
    if not importlib.util.find_spec("distributed"):
        yield []
        return
    command = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        yield [[*TASK, "--executor", cluster.stdout.readline().strip()]]
        cluster.communicate()


ENGINES = {"local": local, "two shells": two_shells, "dask": dask, "mpi": mpi}


def killed(command: list[str], given: argparse.Namespace) -> str:
    """Start the command until it ends by itself, again and again in new stores, and kill workers and drivers at random
    moments; print a line. Returns the hash of the store, or of all that were different."""
    store, rng = pathlib.Path(command[command.index("--store") + 1]), random.Random(given.seed)
    left, runs, again, hashes = given.kills, 0, 0, set()
    of = {"workers": 0, "drivers": 0}
    while left:
        shutil.rmtree(store, ignore_errors=True)
        runs += 1
        while True:
            before = stored(store)
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
                while driver.poll() is None:
                    time.sleep(rng.uniform(0.1, 2.0))
                    workers = children(driver.pid)
                    if not (left and workers and driver.poll() is None):
                        continue
                    who = rng.choice(["workers", "workers", "drivers"])
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(driver.pid if who == "drivers" else rng.choice(workers), signal.SIGKILL)
                        left, of[who] = left - 1, of[who] + 1
            now = stored(store)
            again += sum(now.get(name) != moment for name, moment in before.items())
            if driver.returncode == 0:
                break
        hashes.add(content(store))
    where = ", ".join(f"{n} to {who}" for who, n in of.items())
    print(f"\n{given.kills} SIGKILLs ({where}), {runs} whole run{'s' * (runs > 1)} of `local`:", end=" ")
    print(f"{len(hashes)} different store{'s' * (len(hashes) > 1)}, {again} results written twice")
    return hashes.pop() if len(hashes) == 1 and not again else "different"


def stored(store: pathlib.Path) -> dict[str, tuple[int, int]]:
    """The results that are there, and which file each of them is."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in store.glob("[!.]*.h5")}


def children(parent: int) -> list[int]:
    """The worker processes of a driver: those that it has spawned, without the one that counts its resources."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            worker = b"spawn_main" in (path.parent / "cmdline").read_bytes()
            if worker and int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(main())
