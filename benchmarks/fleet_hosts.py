"""A dask cluster over several hosts, which are network namespaces of this machine: who is let in, and a lost host.

    sudo python benchmarks/fleet_hosts.py

Host 0 has the scheduler and the driver, hosts 1 and 2 a worker each, as docs/fleets.md starts them. Needs root,
iproute2, openssl and distributed. Prints a line for each case; the exit status is 1 where one is not as it must be:

- with certificates of one authority the tasks are performed, to the bytes of this process
- a driver with a certificate of another authority, or with none, or without TLS, is refused in one line
- host 2 drops off the network while it has a task, and returns: the task is performed elsewhere, to the same bytes
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from certificates import certificates

from nanoprune.lab.data import load
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.tasks.fleet import shadow_tasks, write_plan
from nanoprune.lab.tasks.perform import perform
from nanoprune.lab.workflow.single_model import train_model
from nanoprune.schedule import Schedule

ROOT = pathlib.Path(__file__).parents[1]
HOSTS = ("10.77.0.1", "10.77.0.2", "10.77.0.3")
SWITCH = "nanoprune-switch"
PORT = 8786
GONE = 25.0  # seconds that host 2 is off the network
SETTINGS = {"OPENBLAS_NUM_THREADS": "1", "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s"}


def main() -> int:
    os.environ |= SETTINGS | {"PYTHONPATH": str(ROOT)}
    dataset = load("digits")
    recipe = dataclasses.replace(
        recipe_for(dataset, 400, network="mlp", minmax=0.0), dense=Schedule(epochs=200, batch=32, lr=0.05)
    )
    tasks = shadow_tasks(train_model(dataset, recipe, 0, 1), 16)
    expected = {f"{task.sha256}.h5": perform(task.text) for task in tasks}
    with tempfile.TemporaryDirectory() as temporary, network():
        folder = pathlib.Path(temporary)
        write_plan(tasks, folder / "plan")
        files = sorted(str(path) for path in (folder / "plan").iterdir())
        ours, theirs = certificates(folder / "ours"), certificates(folder / "theirs")

        def driver(store: str, settings: dict[str, str], scheme: str = "dask+tls") -> subprocess.Popen:
            words = [sys.executable, str(ROOT / "cli.py"), "task", *files, "--store", str(folder / store)]
            return on_host(0, [*words, "--executor", f"{scheme}://{HOSTS[0]}:{PORT}"], settings, stderr=subprocess.PIPE)

        def same(store: str) -> bool:
            return {path.name: path.read_bytes() for path in (folder / store).iterdir()} == expected

        right = []
        with cluster(ours):
            began = time.monotonic()
            of = driver("all", ours)
            said = of.communicate()[1]
            right.append(of.returncode == 0 and same("all"))
            print(said, end="")
            print(
                f"certificates of one authority: {time.monotonic() - began:.1f} s, same bytes: {right[-1]}", flush=True
            )
            for name, settings, scheme in (
                ("a certificate of another authority", theirs, "dask+tls"),
                ("no certificate", {}, "dask+tls"),
                ("no TLS", ours, "dask"),
            ):
                of = driver("none", settings, scheme)
                said = of.communicate()[1].splitlines()
                right.append(of.returncode == 2 and len(said) == 1)
                print(f"{name}: exit status {of.returncode}: {said[-1]}", flush=True)
            began = time.monotonic()
            of = driver("lost", ours)
            while len(list((folder / "lost").glob("[!.]*.h5"))) < 2 and of.poll() is None:
                time.sleep(0.05)
            ip("-n", name_of(2), "link", "set", "eth0", "down")
            there = len(list((folder / "lost").glob("[!.]*.h5")))
            time.sleep(GONE)
            ip("-n", name_of(2), "link", "set", "eth0", "up")
            right.append(of.wait() == 0 and same("lost"))
            print(
                f"host 2 gone for {GONE:.0f} s after {there} of {len(tasks)} tasks: {time.monotonic() - began:.1f} s, "
                f"same bytes: {right[-1]}"
            )
    return 0 if all(right) else 1


def name_of(host: int) -> str:
    return f"nanoprune-{host}"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def network() -> Iterator[None]:
    """The hosts, and the switch that connects them."""
    with contextlib.ExitStack() as stack:

        def namespace(name: str) -> None:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")

        namespace(SWITCH)
        ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        ip("-n", SWITCH, "link", "set", "bridge", "up")
        for host, address in enumerate(HOSTS):
            namespace(name_of(host))
            ip("-n", SWITCH, "link", "add", f"port{host}", "type", "veth", "peer", "eth0", "netns", name_of(host))
            ip("-n", SWITCH, "link", "set", f"port{host}", "master", "bridge", "up")
            ip("-n", name_of(host), "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name_of(host), "link", "set", "eth0", "up")
        yield


def on_host(host: int, words: list[str], settings: dict[str, str], **options: object) -> subprocess.Popen:
    command = ["ip", "netns", "exec", name_of(host), *words]
    options = {"stdout": subprocess.DEVNULL, "text": True} | options
    return subprocess.Popen(command, env=os.environ | settings, **options)


@contextlib.contextmanager
def cluster(settings: dict[str, str]) -> Iterator[None]:
    dask, quiet = [sys.executable, "-m", "dask"], {"stderr": subprocess.DEVNULL}
    scheduler = ["scheduler", "--protocol", "tls", "--host", HOSTS[0], "--port", str(PORT), "--no-dashboard"]
    worker = ["worker", f"tls://{HOSTS[0]}:{PORT}", "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    started = [on_host(0, [*dask, *scheduler], settings, **quiet)]
    started += [on_host(host, [*dask, *worker, "--host", HOSTS[host]], settings, **quiet) for host in (1, 2)]
    try:
        time.sleep(10.0)  # both workers are there
        yield
    finally:
        for of in started:
            of.kill()
            of.wait()


if __name__ == "__main__":
    sys.exit(main())
